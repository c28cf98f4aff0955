// SPDX-License-Identifier: GPL-2.0
/* Receive: packets from the ring to the stack. */
#include <linux/virtio_net.h>

#include "tbnet.h"

#define REFILL_BATCH	16
#define IDLE_POLL	HZ

/* A packet on its way from the ring to an skb */
struct rx_packet {
	struct tbnet_rx_hdr hdr;
	struct sk_buff *skb;		/* NULL: to be dropped */
	bool split;
	unsigned int chains;
};

void tbnet_rx_done(struct virtqueue *vq)
{
	struct tbnet *tn = vq->vdev->priv;
	struct tbnet_rxq *rxq = &tn->rxqs[vq->index / 2];

	virtqueue_disable_cb(vq);
	napi_schedule(&rxq->napi);
}

/* A stretch of readable bytes: some copied, the rest a fragment. True: the page was given away. */
static bool add_readable(struct tbnet_rxq *rxq, struct rx_packet *pkt, netmem_ref netmem,
			 unsigned int offset, unsigned int len, unsigned int truesize)
{
	struct sk_buff *skb = pkt->skb;
	void *va = netmem_address(netmem) + offset;
	unsigned int copy = 0;

	if (!skb->len) {
		copy = len;
		if (len > TBNET_RX_COPY) {
			copy = le16_to_cpu(pkt->hdr.hdr_len);
			if (copy < ETH_HLEN || copy > TBNET_RX_COPY)
				copy = eth_get_headlen(rxq->tn->dev, va, TBNET_RX_COPY);
		}
		skb_put_data(skb, va, copy);
	}
	if (copy == len)
		return false;
	skb_add_rx_frag_netmem(skb, skb_shinfo(skb)->nr_frags, netmem, offset + copy, len - copy,
			       truesize);
	return true;
}

static void add_header_buffer(struct tbnet_rxq *rxq, struct rx_packet *pkt,
			      struct tbnet_rx_slot *slot, unsigned int offset, unsigned int len)
{
	if (add_readable(rxq, pkt, page_to_netmem(slot->hdr), slot->hdr_offset + offset, len,
			 TBNET_HDR_BUF))
		slot->hdr = NULL;
}

static void add_payload(struct tbnet_rxq *rxq, struct rx_packet *pkt, struct tbnet_rx_slot *slot,
			unsigned int offset, unsigned int len)
{
	struct sk_buff *skb = pkt->skb;

	if (!len)
		return;
	page_pool_dma_sync_netmem_for_cpu(rxq->mem.pay_pool, slot->pay, offset, len);
	if (pkt->split)
		skb_add_rx_frag_netmem(skb, skb_shinfo(skb)->nr_frags, slot->pay, offset, len,
				       PAGE_SIZE);
	else if (!add_readable(rxq, pkt, slot->pay, offset, len, PAGE_SIZE))
		return;
	slot->pay = 0;
}

static void drop(struct tbnet_rxq *rxq, struct sk_buff *skb, u64_stats_t *why)
{
	u64_stats_update_begin(&rxq->syncp);
	u64_stats_inc(why);
	u64_stats_inc(&rxq->stats.dropped);
	u64_stats_update_end(&rxq->syncp);
	kfree_skb(skb);
}

/* Bytes of the frame in this chain that the device claims, or -1 if they cannot be there */
static int check_lengths(const struct tbnet_rxq *rxq, const struct rx_packet *pkt,
			 unsigned int used, bool first)
{
	unsigned int rx_hdr = first ? rxq->tn->rx_hdr_size : 0;
	unsigned int linear = first && pkt->split ? le16_to_cpu(pkt->hdr.split_len) : 0;
	unsigned int room = PAGE_SIZE;

	if (used < rx_hdr + linear || (linear && linear > TBNET_RX_COPY))
		return -1;
	if (pkt->split)
		used -= rx_hdr + linear;
	else if (rxq->mem.split)
		room = TBNET_HDR_BUF;
	return used > room || (first && pkt->split && linear < ETH_HLEN) ? -1 : used;
}

static void add_chain(struct tbnet_rxq *rxq, struct rx_packet *pkt, struct tbnet_rx_slot *slot,
		      unsigned int used, bool first)
{
	unsigned int skip = first ? rxq->tn->rx_hdr_size : 0;
	int len = check_lengths(rxq, pkt, used, first);

	if (len < 0 || skb_shinfo(pkt->skb)->nr_frags == MAX_SKB_FRAGS) {
		drop(rxq, pkt->skb, &rxq->stats.errors);
		pkt->skb = NULL;
		return;
	}
	if (pkt->split) {
		if (first)
			skb_put_data(pkt->skb, page_address(slot->hdr) + slot->hdr_offset + skip,
				     le16_to_cpu(pkt->hdr.split_len));
		add_payload(rxq, pkt, slot, 0, len);
	} else if (rxq->mem.split) {
		add_header_buffer(rxq, pkt, slot, skip, len - skip);
	} else {
		add_payload(rxq, pkt, slot, skip, len - skip);
	}
}

/* The receive header of the first chain, at the start of whatever the CPU may read there */
static void read_header(struct tbnet_rxq *rxq, struct rx_packet *pkt, struct tbnet_rx_slot *slot,
			unsigned int used)
{
	unsigned int size = rxq->tn->rx_hdr_size;
	void *va;

	memset(&pkt->hdr, 0, sizeof(pkt->hdr));
	if (rxq->mem.split) {
		dma_sync_single_for_cpu(rxq->tn->dma_dev, tbnet_hdr_dma(slot), TBNET_HDR_BUF,
					DMA_FROM_DEVICE);
		va = page_address(slot->hdr) + slot->hdr_offset;
	} else {
		page_pool_dma_sync_netmem_for_cpu(rxq->mem.pay_pool, slot->pay, 0, size);
		va = netmem_address(slot->pay);
	}
	if (used >= size)
		memcpy(&pkt->hdr, va, size);
	pkt->split = rxq->mem.split && pkt->hdr.split_flags & TBNET_SPLIT_DONE;
	pkt->chains = max_t(unsigned int, le16_to_cpu(pkt->hdr.num_buffers), 1);
	pkt->skb = napi_alloc_skb(&rxq->napi, TBNET_RX_COPY);
	if (pkt->skb) {
		skb_mark_for_recycle(pkt->skb);
		return;
	}
	drop(rxq, NULL, &rxq->stats.alloc_fail);
}

/* What of the slot was not given away goes to the device again. */
static void put_slot(struct tbnet_rxq *rxq, struct tbnet_rx_slot *slot)
{
	if (slot->hdr)
		dma_sync_single_for_device(rxq->tn->dma_dev, tbnet_hdr_dma(slot), TBNET_HDR_BUF,
					   DMA_FROM_DEVICE);
	else if (slot->pay && !rxq->mem.split)
		dma_sync_single_for_device(rxq->tn->dma_dev, page_pool_get_dma_addr_netmem(slot->pay),
					   PAGE_SIZE, DMA_FROM_DEVICE);
	tbnet_rx_release(&rxq->mem, slot);
}

static void set_hash(const struct tbnet *tn, struct sk_buff *skb, const struct tbnet_rx_hdr *hdr)
{
	u16 report = le16_to_cpu(hdr->hash_report);
	bool l3 = report == VIRTIO_NET_HASH_REPORT_IPv4 || report == VIRTIO_NET_HASH_REPORT_IPv6;

	if (report && tn->dev->features & NETIF_F_RXHASH)
		skb_set_hash(skb, le32_to_cpu(hdr->hash), l3 ? PKT_HASH_TYPE_L3 : PKT_HASH_TYPE_L4);
}

/* The stack cannot sum up what the CPU cannot read. */
static bool is_unverifiable(const struct sk_buff *skb, const struct tbnet_rx_hdr *hdr)
{
	return !skb_frags_readable(skb) &&
	       !(hdr->flags & (VIRTIO_NET_HDR_F_NEEDS_CSUM | VIRTIO_NET_HDR_F_DATA_VALID));
}

static void count_packet(struct tbnet_rxq *rxq, const struct rx_packet *pkt)
{
	struct tbnet_rx_stats *stats = &rxq->stats;
	struct sk_buff *skb = pkt->skb;

	u64_stats_update_begin(&rxq->syncp);
	u64_stats_inc(&stats->packets);
	u64_stats_add(&stats->bytes, skb->len);
	if (rxq->mem.split)
		u64_stats_inc(pkt->split ? &stats->split : &stats->unsplit);
	u64_stats_inc(skb->ip_summed == CHECKSUM_NONE ? &stats->csum_none :
		      &stats->csum_unnecessary);
	if (skb_is_gso(skb)) {
		u64_stats_inc(&stats->gso_packets);
		u64_stats_add(&stats->gso_bytes, skb->len);
	}
	u64_stats_update_end(&rxq->syncp);
}

static void deliver(struct tbnet_rxq *rxq, struct rx_packet *pkt)
{
	const struct virtio_net_hdr *hdr = (const struct virtio_net_hdr *)&pkt->hdr;
	struct sk_buff *skb = pkt->skb;

	if (is_unverifiable(skb, &pkt->hdr)) {
		drop(rxq, skb, &rxq->stats.csum_bad);
		return;
	}
	if (pkt->hdr.flags & VIRTIO_NET_HDR_F_DATA_VALID)
		skb->ip_summed = CHECKSUM_UNNECESSARY;
	if (skb->len < ETH_HLEN || virtio_net_hdr_to_skb(skb, hdr, true)) {
		drop(rxq, skb, &rxq->stats.errors);
		return;
	}
	count_packet(rxq, pkt);
	set_hash(rxq->tn, skb, &pkt->hdr);
	skb_record_rx_queue(skb, rxq->index);
	skb->protocol = eth_type_trans(skb, rxq->tn->dev);
	napi_gro_receive(&rxq->napi, skb);
}

static void receive(struct tbnet_rxq *rxq, struct tbnet_rx_slot *slot, unsigned int used)
{
	struct rx_packet pkt;

	read_header(rxq, &pkt, slot, used);
	for (unsigned int i = 0; i < pkt.chains; i++) {
		if (i)
			slot = virtqueue_get_buf(rxq->vq, &used);
		if (!slot)
			break;
		if (pkt.skb)
			add_chain(rxq, &pkt, slot, used, !i);
		put_slot(rxq, slot);
	}
	if (!pkt.skb)
		return;
	if (slot)
		deliver(rxq, &pkt);
	else
		drop(rxq, pkt.skb, &rxq->stats.errors);
}

int tbnet_rx_poll(struct napi_struct *napi, int budget)
{
	struct tbnet_rxq *rxq = container_of(napi, struct tbnet_rxq, napi);
	struct tbnet_rx_slot *slot;
	unsigned int used, opaque;
	int done = 0;

	if (!budget)
		return 0;
	virtqueue_disable_cb(rxq->vq);
	while (done < budget) {
		slot = virtqueue_get_buf(rxq->vq, &used);
		if (!slot)
			break;
		receive(rxq, slot, used);
		done++;
		if (rxq->mem.num_free >= REFILL_BATCH)
			tbnet_rx_refill(rxq);
	}
	tbnet_rx_refill(rxq);
	if (done == budget)
		return done;

	if (!timer_pending(&rxq->timer))
		mod_timer(&rxq->timer, jiffies + IDLE_POLL);
	opaque = virtqueue_enable_cb_prepare(rxq->vq);
	if (napi_complete_done(napi, done)) {
		if (virtqueue_poll(rxq->vq, opaque) && napi_schedule_prep(napi)) {
			virtqueue_disable_cb(rxq->vq);
			__napi_schedule(napi);
		}
	} else {
		virtqueue_disable_cb(rxq->vq);
	}
	return done;
}
