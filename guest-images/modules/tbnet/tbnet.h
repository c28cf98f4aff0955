/* SPDX-License-Identifier: GPL-2.0 */
/* What the parts of the driver know of each other. docs/drivers/tbnet.md tells the design. */
#ifndef TBNET_H
#define TBNET_H

#include <linux/completion.h>
#include <linux/etherdevice.h>
#include <linux/ethtool.h>
#include <linux/mutex.h>
#include <linux/netdevice.h>
#include <linux/pci.h>
#include <linux/u64_stats_sync.h>
#include <linux/virtio.h>
#include <linux/virtio_config.h>
#include <linux/workqueue.h>
#include <net/netdev_queues.h>
#include <net/netmem.h>
#include <net/page_pool/helpers.h>

#include "regs.h"

#define TBNET_MAX_PAIRS		16
#define TBNET_HDR_BUF		2048	/* holds what is not split, up to an Ethernet frame */
#define TBNET_MAX_THRESHOLD	1536	/* what is shorter fits into one header buffer */
#define TBNET_RX_COPY		256	/* of a frame, into the linear part of its skb */
#define TBNET_MIN_RING		64
#define TBNET_RSS_KEY		40
#define TBNET_RSS_TABLE		128
#define TBNET_MAX_RULES		128

struct tbnet;

/* One receive buffer: the chain [hdr | pay] of a queue with split, [pay] of one without. */
struct tbnet_rx_slot {
	struct page *hdr;
	unsigned int hdr_offset;
	netmem_ref pay;
};

/* All of a receive queue that the core may exchange while the interface is up. */
struct tbnet_rx_mem {
	bool split;
	struct page_pool *hdr_pool;		/* with split only */
	struct page_pool *pay_pool;
	struct tbnet_rx_slot *slots;
	u16 *free;				/* stack of slots that are not posted */
	unsigned int num_slots;
	unsigned int num_free;
};

struct tbnet_rx_stats {
	u64_stats_t packets;
	u64_stats_t bytes;
	u64_stats_t split;
	u64_stats_t unsplit;			/* on a queue with split */
	u64_stats_t alloc_fail;			/* pool or memory ran dry */
	u64_stats_t csum_none;
	u64_stats_t csum_unnecessary;
	u64_stats_t csum_bad;			/* unreadable payload that nobody can verify */
	u64_stats_t gso_packets;
	u64_stats_t gso_bytes;
	u64_stats_t dropped;			/* by the driver */
	u64_stats_t errors;			/* the device contradicts itself */
};

struct tbnet_rxq {
	struct tbnet *tn;
	struct virtqueue *vq;
	unsigned int index;
	struct napi_struct napi;
	struct timer_list timer;		/* polls when no interrupt will */
	struct tbnet_rx_mem mem;
	u16 split_types;			/* what the device was told last */
	u32 split_threshold;
	struct u64_stats_sync syncp;
	struct tbnet_rx_stats stats;
};

struct tbnet_tx_map {
	DEFINE_DMA_UNMAP_ADDR(addr);
	DEFINE_DMA_UNMAP_LEN(len);
};

struct tbnet_tx_slot {
	struct sk_buff *skb;
	unsigned int num_maps;			/* the first is of the linear part */
	struct tbnet_tx_map maps[MAX_SKB_FRAGS + 1];
};

/* A transmit header's place in coherent memory; 12 bytes are used */
#define TBNET_TX_HDR_STRIDE	16

struct tbnet_tx_stats {
	u64_stats_t packets;
	u64_stats_t bytes;
	u64_stats_t csum_none;
	u64_stats_t needs_csum;
	u64_stats_t gso_packets;
	u64_stats_t gso_bytes;
	u64_stats_t stop;
	u64_stats_t wake;
	u64_stats_t dropped;
	u64_stats_t timeouts;
};

struct tbnet_txq {
	struct tbnet *tn;
	struct virtqueue *vq;
	unsigned int index;
	struct napi_struct napi;
	void *hdrs;
	dma_addr_t hdrs_dma;
	struct tbnet_tx_slot *slots;
	u16 *free;
	unsigned int num_slots;
	unsigned int num_free;
	struct u64_stats_sync syncp;		/* written under the transmit lock */
	struct tbnet_tx_stats stats;
};

struct tbnet_rss {
	__le32 hash_types;
	u16 table[TBNET_RSS_TABLE];
	unsigned int table_size;
	u8 key[TBNET_RSS_KEY];
};

struct tbnet {
	struct net_device *dev;
	struct virtio_device *vdev;
	struct device *dma_dev;
	unsigned int max_pairs;
	unsigned int pairs;			/* in use; instance lock */
	unsigned int rx_hdr_size;
	unsigned int rx_ring;			/* descriptors */
	unsigned int tx_ring;
	unsigned int max_ring;
	bool has_split;
	bool has_rss;
	bool has_rules;
	bool has_stats;
	bool started;				/* queues run; instance lock */
	bool lost;				/* does not answer, or wants a reset */
	struct tbnet_rxq *rxqs;
	struct tbnet_txq *txqs;
	struct work_struct config_work;

	struct {
		struct virtqueue *vq;
		struct mutex lock;
		struct completion done;
		u8 *buf;
		bool stuck;			/* the device has not given buf back */
	} ctrl;

	struct tbnet_rss rss;
	unsigned int num_rules;			/* of the table */
	struct ethtool_rx_flow_spec *rules;	/* by location; flow_type 0: free */
};

static inline dma_addr_t tbnet_hdr_dma(const struct tbnet_rx_slot *slot)
{
	return page_pool_get_dma_addr(slot->hdr) + slot->hdr_offset;
}

/* drv.c */
bool tbnet_gone(struct tbnet *tn);

/* ctrl.c: commands to the device, may sleep */
int tbnet_ctrl_init(struct tbnet *tn);
void tbnet_ctrl_fini(struct tbnet *tn);
void tbnet_ctrl_done(struct virtqueue *vq);
int tbnet_ctrl(struct tbnet *tn, u8 class, u8 command, const void *data, size_t len,
	       void *result, size_t result_len);
int tbnet_ctrl_u8(struct tbnet *tn, u8 class, u8 command, u8 value);

/* queue.c: all queues up and down, one receive queue exchanged */
extern const struct netdev_queue_mgmt_ops tbnet_queue_mgmt_ops;
int tbnet_queues_init(struct tbnet *tn);
void tbnet_queues_fini(struct tbnet *tn);
int tbnet_up(struct tbnet *tn, const struct netdev_config *cfg);
void tbnet_down(struct tbnet *tn);
void tbnet_vq_reset(struct tbnet *tn, struct virtqueue *vq,
		    void (*recycle)(struct virtqueue *vq, void *buf));

/* rx.c: packets */
void tbnet_rx_done(struct virtqueue *vq);
int tbnet_rx_poll(struct napi_struct *napi, int budget);

/* rxring.c: buffers */
int tbnet_rx_mem_alloc(struct tbnet_rxq *rxq, struct tbnet_rx_mem *mem, bool split);
void tbnet_rx_mem_free(struct tbnet_rx_mem *mem);
void tbnet_rx_refill(struct tbnet_rxq *rxq);
void tbnet_rx_timer(struct timer_list *timer);
void tbnet_rx_release(struct tbnet_rx_mem *mem, struct tbnet_rx_slot *slot);
int tbnet_rx_start(struct tbnet_rxq *rxq, const struct tbnet_rx_mem *mem, u32 threshold);
void tbnet_rx_stop(struct tbnet_rxq *rxq, struct tbnet_rx_mem *mem);

/* tx.c */
void tbnet_tx_done(struct virtqueue *vq);
int tbnet_tx_poll(struct napi_struct *napi, int budget);
netdev_tx_t tbnet_start_xmit(struct sk_buff *skb, struct net_device *dev);
int tbnet_tx_alloc(struct tbnet_txq *txq);
void tbnet_tx_free(struct tbnet_txq *txq);
void tbnet_tx_start(struct tbnet_txq *txq);
void tbnet_tx_stop(struct tbnet_txq *txq);

/* netdev.c */
void tbnet_netdev_init(struct tbnet *tn);

/* ethtool.c */
extern const struct ethtool_ops tbnet_ethtool_ops;

/* steer.c: RSS */
int tbnet_steer_init(struct tbnet *tn);
void tbnet_steer_fini(struct tbnet *tn);
int tbnet_steer_apply(struct tbnet *tn);
u32 tbnet_get_rx_ring_count(struct net_device *dev);
u32 tbnet_get_rxfh_key_size(struct net_device *dev);
u32 tbnet_get_rxfh_indir_size(struct net_device *dev);
int tbnet_get_rxfh(struct net_device *dev, struct ethtool_rxfh_param *rxfh);
int tbnet_set_rxfh(struct net_device *dev, struct ethtool_rxfh_param *rxfh,
		   struct netlink_ext_ack *extack);
int tbnet_get_rxfh_fields(struct net_device *dev, struct ethtool_rxfh_fields *fields);

/* rules.c */
int tbnet_get_rxnfc(struct net_device *dev, struct ethtool_rxnfc *nfc, u32 *locations);
int tbnet_set_rxnfc(struct net_device *dev, struct ethtool_rxnfc *nfc);

/* stats.c */
extern const struct netdev_stat_ops tbnet_stat_ops;
void tbnet_get_stats64(struct net_device *dev, struct rtnl_link_stats64 *stats);
int tbnet_get_sset_count(struct net_device *dev, int set);
void tbnet_get_strings(struct net_device *dev, u32 set, u8 *data);
void tbnet_get_ethtool_stats(struct net_device *dev, struct ethtool_stats *stats, u64 *data);

#endif
