/* SPDX-License-Identifier: GPL-2.0 */
/* What the device adds to virtio-net: docs/devices/virtio-net.md, version 1.0. */
#ifndef TBNET_REGS_H
#define TBNET_REGS_H

#include <linux/types.h>
#include <linux/virtio_net.h>

#define TBNET_VENDOR_ID			0x1234	/* PCI subsystem vendor */

/* Feature bits */
#define TBNET_F_HDR_SPLIT		100
#define TBNET_F_NTUPLE			101
#define TBNET_F_QUEUE_STATS		102

/* Device configuration behind struct virtio_net_config */
#define TBNET_CFG_MAGIC			0x40
#define TBNET_CFG_VERSION		0x44
#define TBNET_CFG_RX_HDR_SIZE		0x46
#define TBNET_CFG_SPLIT_TYPES		0x48
#define TBNET_CFG_RULES			0x4c
#define TBNET_CFG_RULE_SIZE		0x50
#define TBNET_CFG_STATS_COUNT		0x52
#define TBNET_MAGIC			0x534e4254
#define TBNET_VERSION_MAJOR		1

/* In front of a received packet, if HDR_SPLIT was negotiated; else only the first 12 bytes */
struct tbnet_rx_hdr {
	u8 flags;			/* VIRTIO_NET_HDR_F_* */
	u8 gso_type;
	__le16 hdr_len;
	__le16 gso_size;
	__le16 csum_start;
	__le16 csum_offset;
	__le16 num_buffers;
	__le16 split_len;		/* bytes of the packet in header buffers */
	u8 split_flags;			/* TBNET_SPLIT_* */
	u8 split_reason;
	__le32 hash;
	__le16 hash_report;
	__le16 reserved;
};

#define TBNET_SPLIT_DONE		BIT(0)
#define TBNET_SPLIT_HDR_VALID		BIT(1)

/* Private classes of the control queue; ack is 0 or one of TBNET_ACK_* */
#define TBNET_CTRL_SPLIT		0xe0
#define TBNET_CTRL_SPLIT_SET		0
#define TBNET_CTRL_RULE			0xe1
#define TBNET_CTRL_RULE_INSERT		0
#define TBNET_CTRL_RULE_DELETE		1
#define TBNET_CTRL_STATS		0xe2
#define TBNET_CTRL_STATS_GET		0

#define TBNET_ACK_UNKNOWN		1
#define TBNET_ACK_INVALID		2
#define TBNET_ACK_NO_ENTRY		3
#define TBNET_ACK_FULL			4

#define TBNET_SPLIT_TCP4		BIT(0)
#define TBNET_SPLIT_TCP6		BIT(1)

struct tbnet_split {
	__le16 pair;
	__le16 types;			/* TBNET_SPLIT_TCP*, 0: do not split */
	__le32 threshold;
};

#define TBNET_RULE_DROP			0xffff

struct tbnet_rule {
	__le32 location;
	__le16 queue;			/* or TBNET_RULE_DROP */
	u8 ip_version;
	u8 protocol;
	u8 src[16];
	u8 src_mask[16];
	u8 dst[16];
	u8 dst_mask[16];
	__be16 sport;
	__be16 sport_mask;
	__be16 dport;
	__be16 dport_mask;
	__le16 vlan;
	__le16 vlan_mask;
	__le32 reserved;
};

#define TBNET_HW_STATS			24

static_assert(sizeof(struct tbnet_rx_hdr) == 24);
static_assert(sizeof(struct tbnet_split) == 8);
static_assert(sizeof(struct tbnet_rule) == 88);

#endif
