// SPDX-License-Identifier: GPL-2.0
/* A receive ring: its page pools, its buffers, its start and stop. */
#include <linux/jiffies.h>
#include <linux/slab.h>

#include "tbnet.h"

#define REFILL_RETRY	msecs_to_jiffies(10)

/* A ring without buffers gets no interrupt, and one that was lost is not sent again. */
void tbnet_rx_timer(struct timer_list *timer)
{
	struct tbnet_rxq *rxq = timer_container_of(rxq, timer, timer);

	napi_schedule(&rxq->napi);
	napi_schedule(&rxq->tn->txqs[rxq->index].napi);
}

/* Pools and slots, without a NAPI context until the queue starts: a trial may be thrown away. */

static struct page_pool *create_pool(struct tbnet_rxq *rxq, unsigned int pages, unsigned int flags)
{
	struct page_pool_params params = {
		.flags = PP_FLAG_DMA_MAP | PP_FLAG_DMA_SYNC_DEV | flags,
		.pool_size = pages,
		.nid = NUMA_NO_NODE,
		.dev = rxq->tn->dma_dev,
		.dma_dir = DMA_FROM_DEVICE,
		.max_len = PAGE_SIZE,
		.netdev = rxq->tn->dev,
		.queue_idx = rxq->index,
	};

	return page_pool_create(&params);
}

static int create_pools(struct tbnet_rxq *rxq, struct tbnet_rx_mem *mem)
{
	struct page_pool *pool;

	pool = create_pool(rxq, mem->num_slots,
			   mem->split ? PP_FLAG_ALLOW_UNREADABLE_NETMEM : 0);
	if (IS_ERR(pool))
		return PTR_ERR(pool);
	mem->pay_pool = pool;
	if (!mem->split)
		return 0;

	pool = create_pool(rxq, mem->num_slots / (PAGE_SIZE / TBNET_HDR_BUF), 0);
	if (IS_ERR(pool))
		return PTR_ERR(pool);
	mem->hdr_pool = pool;
	return 0;
}

int tbnet_rx_mem_alloc(struct tbnet_rxq *rxq, struct tbnet_rx_mem *mem, bool split)
{
	int ret = -ENOMEM;

	memset(mem, 0, sizeof(*mem));
	mem->split = split;
	mem->num_slots = split ? rxq->tn->rx_ring / 2 : rxq->tn->rx_ring;
	mem->slots = kvcalloc(mem->num_slots, sizeof(*mem->slots), GFP_KERNEL);
	mem->free = kvcalloc(mem->num_slots, sizeof(*mem->free), GFP_KERNEL);
	if (mem->slots && mem->free)
		ret = create_pools(rxq, mem);
	if (ret) {
		tbnet_rx_mem_free(mem);
		return ret;
	}
	for (unsigned int i = 0; i < mem->num_slots; i++)
		mem->free[i] = mem->num_slots - 1 - i;
	mem->num_free = mem->num_slots;
	return 0;
}

/* No slot is posted. Pages that the stack or user space still has come back to the pools later. */
void tbnet_rx_mem_free(struct tbnet_rx_mem *mem)
{
	for (unsigned int i = 0; mem->slots && i < mem->num_slots; i++) {
		struct tbnet_rx_slot *slot = &mem->slots[i];

		if (slot->hdr)
			page_pool_put_full_page(mem->hdr_pool, slot->hdr, false);
		if (slot->pay)
			page_pool_put_full_netmem(mem->pay_pool, slot->pay, false);
	}
	page_pool_destroy(mem->hdr_pool);
	page_pool_destroy(mem->pay_pool);
	kvfree(mem->free);
	kvfree(mem->slots);
	memset(mem, 0, sizeof(*mem));
}

void tbnet_rx_release(struct tbnet_rx_mem *mem, struct tbnet_rx_slot *slot)
{
	mem->free[mem->num_free++] = slot - mem->slots;
}

static bool fill_slot(struct tbnet_rx_mem *mem, struct tbnet_rx_slot *slot)
{
	if (!slot->pay)
		slot->pay = page_pool_dev_alloc_netmems(mem->pay_pool);
	if (mem->split && !slot->hdr)
		slot->hdr = page_pool_dev_alloc_frag(mem->hdr_pool, &slot->hdr_offset,
						     TBNET_HDR_BUF);
	return slot->pay && (slot->hdr || !mem->split);
}

static int post_slot(struct tbnet_rxq *rxq, struct tbnet_rx_slot *slot)
{
	struct scatterlist sgs[2];
	unsigned int num = 0;

	sg_init_table(sgs, rxq->mem.split ? 2 : 1);
	if (rxq->mem.split) {
		sg_dma_address(&sgs[num]) = tbnet_hdr_dma(slot);
		sg_dma_len(&sgs[num++]) = TBNET_HDR_BUF;
	}
	sg_dma_address(&sgs[num]) = page_pool_get_dma_addr_netmem(slot->pay);
	sg_dma_len(&sgs[num++]) = PAGE_SIZE;
	return virtqueue_add_inbuf_premapped(rxq->vq, sgs, num, slot, NULL, GFP_ATOMIC);
}

/* NAPI context, or NAPI disabled. A pool that ran dry is asked again by a timer. */
void tbnet_rx_refill(struct tbnet_rxq *rxq)
{
	struct tbnet_rx_mem *mem = &rxq->mem;
	bool posted = false;

	while (mem->num_free) {
		struct tbnet_rx_slot *slot = &mem->slots[mem->free[mem->num_free - 1]];

		if (!fill_slot(mem, slot)) {
			u64_stats_update_begin(&rxq->syncp);
			u64_stats_inc(&rxq->stats.alloc_fail);
			u64_stats_update_end(&rxq->syncp);
			mod_timer(&rxq->timer, jiffies + REFILL_RETRY);
			break;
		}
		if (post_slot(rxq, slot))
			break;
		mem->num_free--;
		posted = true;
	}
	if (posted)
		virtqueue_kick(rxq->vq);
}

static void recycle(struct virtqueue *vq, void *buf)
{
	struct tbnet *tn = vq->vdev->priv;

	tbnet_rx_release(&tn->rxqs[vq->index / 2].mem, buf);
}

static int set_split(struct tbnet_rxq *rxq, bool split, u32 threshold)
{
	u16 types = split ? TBNET_SPLIT_TCP4 | TBNET_SPLIT_TCP6 : 0;
	struct tbnet_split cmd = {
		.pair = cpu_to_le16(rxq->index),
		.types = cpu_to_le16(types),
		.threshold = cpu_to_le32(threshold),
	};
	int ret;

	if (types == rxq->split_types && (!types || threshold == rxq->split_threshold))
		return 0;
	ret = tbnet_ctrl(rxq->tn, TBNET_CTRL_SPLIT, TBNET_CTRL_SPLIT_SET, &cmd, sizeof(cmd),
			 NULL, 0);
	if (ret)
		return ret;
	rxq->split_types = types;
	rxq->split_threshold = threshold;
	return 0;
}

/* The ring is empty. Takes over @mem; on an error it stays the caller's. */
int tbnet_rx_start(struct tbnet_rxq *rxq, const struct tbnet_rx_mem *mem, u32 threshold)
{
	int ret = set_split(rxq, mem->split, threshold);

	if (ret)
		return ret;
	rxq->mem = *mem;
	page_pool_enable_direct_recycling(rxq->mem.pay_pool, &rxq->napi);
	if (rxq->mem.hdr_pool)
		page_pool_enable_direct_recycling(rxq->mem.hdr_pool, &rxq->napi);
	local_bh_disable();
	tbnet_rx_refill(rxq);
	local_bh_enable();
	napi_enable_locked(&rxq->napi);
	local_bh_disable();
	napi_schedule(&rxq->napi);
	local_bh_enable();
	return 0;
}

/* Hands the memory to @mem, with no buffer posted. */
void tbnet_rx_stop(struct tbnet_rxq *rxq, struct tbnet_rx_mem *mem)
{
	napi_disable_locked(&rxq->napi);
	timer_delete_sync(&rxq->timer);
	tbnet_vq_reset(rxq->tn, rxq->vq, recycle);
	page_pool_disable_direct_recycling(rxq->mem.pay_pool);
	if (rxq->mem.hdr_pool)
		page_pool_disable_direct_recycling(rxq->mem.hdr_pool);
	*mem = rxq->mem;
	memset(&rxq->mem, 0, sizeof(rxq->mem));
}
