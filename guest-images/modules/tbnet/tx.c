// SPDX-License-Identifier: GPL-2.0
/* Transmit: skbs to the ring, pages or device memory alike, and back when the device is done. */
#include <linux/dma-mapping.h>
#include <linux/slab.h>
#include <linux/virtio_net.h>

#include "tbnet.h"

/* Enough for any skb, also when no memory is left for an indirect table */
#define TX_NEED		(MAX_SKB_FRAGS + 2)

static struct netdev_queue *core_queue(const struct tbnet_txq *txq)
{
	return netdev_get_tx_queue(txq->tn->dev, txq->index);
}

void tbnet_tx_done(struct virtqueue *vq)
{
	struct tbnet *tn = vq->vdev->priv;
	struct tbnet_txq *txq = &tn->txqs[vq->index / 2];

	virtqueue_disable_cb(vq);
	napi_schedule(&txq->napi);
}

int tbnet_tx_alloc(struct tbnet_txq *txq)
{
	unsigned int num = txq->tn->tx_ring;

	txq->num_slots = num;
	txq->num_free = num;
	txq->slots = kvcalloc(num, sizeof(*txq->slots), GFP_KERNEL);
	txq->free = kvcalloc(num, sizeof(*txq->free), GFP_KERNEL);
	txq->hdrs = dma_alloc_coherent(txq->tn->dma_dev, num * TBNET_TX_HDR_STRIDE,
				       &txq->hdrs_dma, GFP_KERNEL);
	if (!txq->slots || !txq->free || !txq->hdrs) {
		tbnet_tx_free(txq);
		return -ENOMEM;
	}
	for (unsigned int i = 0; i < num; i++)
		txq->free[i] = i;
	return 0;
}

void tbnet_tx_free(struct tbnet_txq *txq)
{
	if (txq->hdrs)
		dma_free_coherent(txq->tn->dma_dev, txq->num_slots * TBNET_TX_HDR_STRIDE,
				  txq->hdrs, txq->hdrs_dma);
	kvfree(txq->free);
	kvfree(txq->slots);
	txq->hdrs = NULL;
	txq->free = NULL;
	txq->slots = NULL;
}

/* Device memory has no mapping of ours: its address was kept as 0. */
static void unmap_slot(struct device *dev, struct tbnet_tx_slot *slot)
{
	for (unsigned int i = 0; i < slot->num_maps; i++) {
		struct tbnet_tx_map *map = &slot->maps[i];

		if (!i)
			dma_unmap_single(dev, dma_unmap_addr(map, addr), dma_unmap_len(map, len),
					 DMA_TO_DEVICE);
		else
			netmem_dma_unmap_page_attrs(dev, dma_unmap_addr(map, addr),
						    dma_unmap_len(map, len), DMA_TO_DEVICE, 0);
	}
	slot->num_maps = 0;
}

static void put_slot(struct tbnet_txq *txq, struct tbnet_tx_slot *slot)
{
	unmap_slot(txq->tn->dma_dev, slot);
	slot->skb = NULL;
	txq->free[txq->num_free++] = slot - txq->slots;
}

/* Fills the list behind its first entry. On an error everything is unmapped again. */
static int map_skb(struct tbnet_txq *txq, struct tbnet_tx_slot *slot, struct scatterlist *sgs)
{
	struct device *dev = txq->tn->dma_dev;
	struct sk_buff *skb = slot->skb;
	dma_addr_t addr;

	addr = dma_map_single(dev, skb->data, skb_headlen(skb), DMA_TO_DEVICE);
	if (dma_mapping_error(dev, addr))
		return -ENOMEM;
	dma_unmap_addr_set(&slot->maps[0], addr, addr);
	dma_unmap_len_set(&slot->maps[0], len, skb_headlen(skb));
	slot->num_maps = 1;
	sg_dma_address(&sgs[1]) = addr;
	sg_dma_len(&sgs[1]) = skb_headlen(skb);

	for (unsigned int i = 0; i < skb_shinfo(skb)->nr_frags; i++) {
		const skb_frag_t *frag = &skb_shinfo(skb)->frags[i];
		struct tbnet_tx_map *map = &slot->maps[i + 1];

		addr = skb_frag_dma_map(dev, frag);
		if (dma_mapping_error(dev, addr)) {
			unmap_slot(dev, slot);
			return -ENOMEM;
		}
		netmem_dma_unmap_addr_set(skb_frag_netmem(frag), map, addr, addr);
		dma_unmap_len_set(map, len, skb_frag_size(frag));
		slot->num_maps++;
		sg_dma_address(&sgs[i + 2]) = addr;
		sg_dma_len(&sgs[i + 2]) = skb_frag_size(frag);
	}
	return 0;
}

static int post_skb(struct tbnet_txq *txq, struct sk_buff *skb)
{
	unsigned int index = txq->free[txq->num_free - 1];
	struct tbnet_tx_slot *slot = &txq->slots[index];
	struct scatterlist sgs[MAX_SKB_FRAGS + 2];
	unsigned int num = skb_shinfo(skb)->nr_frags + 2;
	struct virtio_net_hdr_v1 *hdr = txq->hdrs + index * TBNET_TX_HDR_STRIDE;
	int ret;

	ret = virtio_net_hdr_from_skb(skb, (struct virtio_net_hdr *)hdr, true, false, 0);
	if (ret)
		return ret;
	hdr->num_buffers = 0;

	slot->skb = skb;
	sg_init_table(sgs, num);
	sg_dma_address(&sgs[0]) = txq->hdrs_dma + index * TBNET_TX_HDR_STRIDE;
	sg_dma_len(&sgs[0]) = sizeof(*hdr);
	ret = map_skb(txq, slot, sgs);
	if (ret)
		return ret;
	ret = virtqueue_add_outbuf_premapped(txq->vq, sgs, num, slot, GFP_ATOMIC);
	if (ret) {
		unmap_slot(txq->tn->dma_dev, slot);
		return ret;
	}
	txq->num_free--;
	return 0;
}

static void count_posted(struct tbnet_txq *txq, const struct sk_buff *skb, bool stopped)
{
	struct tbnet_tx_stats *stats = &txq->stats;

	u64_stats_update_begin(&txq->syncp);
	if (skb->ip_summed == CHECKSUM_PARTIAL)
		u64_stats_inc(&stats->needs_csum);
	else
		u64_stats_inc(&stats->csum_none);
	if (skb_is_gso(skb)) {
		u64_stats_inc(&stats->gso_packets);
		u64_stats_add(&stats->gso_bytes, skb->len);
	}
	if (stopped)
		u64_stats_inc(&stats->stop);
	u64_stats_update_end(&txq->syncp);
}

netdev_tx_t tbnet_start_xmit(struct sk_buff *skb, struct net_device *dev)
{
	struct tbnet *tn = netdev_priv(dev);
	struct tbnet_txq *txq = &tn->txqs[skb_get_queue_mapping(skb)];
	struct netdev_queue *core = core_queue(txq);
	bool more = netdev_xmit_more();
	bool stopped, kick;

	if (unlikely(txq->vq->num_free < TX_NEED || !txq->num_free)) {
		netif_tx_stop_queue(core);
		virtqueue_kick(txq->vq);
		return NETDEV_TX_BUSY;
	}
	if (unlikely(post_skb(txq, skb))) {
		u64_stats_update_begin(&txq->syncp);
		u64_stats_inc(&txq->stats.dropped);
		u64_stats_update_end(&txq->syncp);
		dev_kfree_skb_any(skb);
		if (!more)
			virtqueue_kick(txq->vq);
		return NETDEV_TX_OK;
	}
	skb_tx_timestamp(skb);
	kick = __netdev_tx_sent_queue(core, skb->len, more);
	stopped = !netif_txq_maybe_stop(core, txq->vq->num_free, TX_NEED, 2 * TX_NEED);
	count_posted(txq, skb, stopped);
	if (kick || stopped)
		virtqueue_kick(txq->vq);
	return NETDEV_TX_OK;
}

/* Under the transmit lock. Returns whether the queue was woken up. */
static bool reap(struct tbnet_txq *txq, int budget)
{
	unsigned int packets = 0, bytes = 0, len;
	struct tbnet_tx_slot *slot;
	bool woken;

	while ((slot = virtqueue_get_buf(txq->vq, &len)) != NULL) {
		packets++;
		bytes += slot->skb->len;
		napi_consume_skb(slot->skb, budget);
		put_slot(txq, slot);
	}
	woken = !__netif_txq_completed_wake(core_queue(txq), packets, bytes, txq->vq->num_free,
					    2 * TX_NEED, !READ_ONCE(txq->tn->started));
	u64_stats_update_begin(&txq->syncp);
	u64_stats_add(&txq->stats.packets, packets);
	u64_stats_add(&txq->stats.bytes, bytes);
	if (woken)
		u64_stats_inc(&txq->stats.wake);
	u64_stats_update_end(&txq->syncp);
	return woken;
}

int tbnet_tx_poll(struct napi_struct *napi, int budget)
{
	struct tbnet_txq *txq = container_of(napi, struct tbnet_txq, napi);
	struct netdev_queue *core = core_queue(txq);
	unsigned int opaque;
	bool done;

	__netif_tx_lock(core, raw_smp_processor_id());
	virtqueue_disable_cb(txq->vq);
	reap(txq, budget);
	if (!budget) {
		__netif_tx_unlock(core);
		return 0;
	}
	opaque = virtqueue_enable_cb_prepare(txq->vq);
	done = napi_complete_done(napi, 0);
	if (!done)
		virtqueue_disable_cb(txq->vq);
	__netif_tx_unlock(core);

	if (done && virtqueue_poll(txq->vq, opaque))
		napi_schedule(napi);
	return 0;
}

static void recycle(struct virtqueue *vq, void *buf)
{
	struct tbnet *tn = vq->vdev->priv;
	struct tbnet_txq *txq = &tn->txqs[vq->index / 2];
	struct tbnet_tx_slot *slot = buf;

	dev_kfree_skb_any(slot->skb);
	put_slot(txq, slot);
}

void tbnet_tx_start(struct tbnet_txq *txq)
{
	netdev_tx_reset_queue(core_queue(txq));
	napi_enable_locked(&txq->napi);
}

/* The core sends nothing any more. What the device has not sent is lost. */
void tbnet_tx_stop(struct tbnet_txq *txq)
{
	unsigned int len;
	void *slot;

	napi_disable_locked(&txq->napi);
	while ((slot = virtqueue_get_buf(txq->vq, &len)) != NULL)
		recycle(txq->vq, slot);
	tbnet_vq_reset(txq->tn, txq->vq, recycle);
	netdev_tx_reset_queue(core_queue(txq));
}
