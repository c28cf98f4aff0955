// SPDX-License-Identifier: GPL-2.0
/* Queues: found once at probe, brought up and down, receive queues exchanged one at a time. */
#include <linux/slab.h>
#include <linux/timer.h>
#include <net/netdev_lock.h>

#include "tbnet.h"

/* Afterwards the ring is empty, enabled, and every buffer that was in it is ours again. */
void tbnet_vq_reset(struct tbnet *tn, struct virtqueue *vq,
		    void (*recycle)(struct virtqueue *vq, void *buf))
{
	void *buf;
	int ret;

	if (!tbnet_gone(tn)) {
		ret = virtqueue_reset(vq, recycle, NULL);
		if (!ret)
			return;
		dev_err(&tn->vdev->dev, "queue %u did not come back from its reset: %d\n",
			vq->index, ret);
		WRITE_ONCE(tn->lost, true);
	}
	while ((buf = virtqueue_detach_unused_buf(vq)) != NULL)
		recycle(vq, buf);
}

static int find_queues(struct tbnet *tn)
{
	unsigned int num = 2 * tn->max_pairs + 1;
	struct virtqueue_info *infos __free(kfree) = kcalloc(num, sizeof(*infos), GFP_KERNEL);
	struct virtqueue **vqs __free(kfree) = kcalloc(num, sizeof(*vqs), GFP_KERNEL);
	int ret;

	if (!infos || !vqs)
		return -ENOMEM;
	for (unsigned int i = 0; i < tn->max_pairs; i++) {
		infos[2 * i].name = "rx";
		infos[2 * i].callback = tbnet_rx_done;
		infos[2 * i].ctx = true;	/* two descriptors are cheaper than a table */
		infos[2 * i + 1].name = "tx";
		infos[2 * i + 1].callback = tbnet_tx_done;
	}
	infos[num - 1].name = "control";
	infos[num - 1].callback = tbnet_ctrl_done;

	ret = virtio_find_vqs(tn->vdev, num, vqs, infos, NULL);
	if (ret)
		return ret;
	for (unsigned int i = 0; i < tn->max_pairs; i++) {
		tn->rxqs[i].vq = vqs[2 * i];
		tn->txqs[i].vq = vqs[2 * i + 1];
	}
	tn->ctrl.vq = vqs[num - 1];
	return 0;
}

static void init_pair(struct tbnet *tn, unsigned int i)
{
	struct tbnet_rxq *rxq = &tn->rxqs[i];
	struct tbnet_txq *txq = &tn->txqs[i];

	rxq->tn = tn;
	rxq->index = i;
	u64_stats_init(&rxq->syncp);
	timer_setup(&rxq->timer, tbnet_rx_timer, 0);
	netif_napi_add_config(tn->dev, &rxq->napi, tbnet_rx_poll, i);
	txq->tn = tn;
	txq->index = i;
	u64_stats_init(&txq->syncp);
	netif_napi_add_tx(tn->dev, &txq->napi, tbnet_tx_poll);
}

/* Needs the device's features; the device may interrupt afterwards, and is not listened to. */
int tbnet_queues_init(struct tbnet *tn)
{
	int ret;

	tn->rxqs = kvcalloc(tn->max_pairs, sizeof(*tn->rxqs), GFP_KERNEL);
	tn->txqs = kvcalloc(tn->max_pairs, sizeof(*tn->txqs), GFP_KERNEL);
	ret = tn->rxqs && tn->txqs ? find_queues(tn) : -ENOMEM;
	if (ret)
		goto err_free;
	tn->dma_dev = virtqueue_dma_dev(tn->ctrl.vq);
	if (!tn->dma_dev) {
		ret = -EINVAL;
		goto err_vqs;
	}
	tn->max_ring = min(virtqueue_get_vring_size(tn->rxqs[0].vq),
			   virtqueue_get_vring_size(tn->txqs[0].vq));
	if (tn->max_ring < TBNET_MIN_RING) {
		ret = dev_err_probe(&tn->vdev->dev, -EINVAL, "rings of %u, %u are needed\n",
				    tn->max_ring, TBNET_MIN_RING);
		goto err_vqs;
	}
	tn->rx_ring = tn->max_ring;
	tn->tx_ring = tn->max_ring;
	for (unsigned int i = 0; i < tn->max_pairs; i++)
		init_pair(tn, i);
	return 0;

err_vqs:
	tn->vdev->config->del_vqs(tn->vdev);
err_free:
	kvfree(tn->txqs);
	kvfree(tn->rxqs);
	return ret;
}

/* The device was reset or is gone. */
void tbnet_queues_fini(struct tbnet *tn)
{
	for (unsigned int i = 0; i < tn->max_pairs; i++) {
		netif_napi_del(&tn->rxqs[i].napi);
		netif_napi_del(&tn->txqs[i].napi);
	}
	tn->vdev->config->del_vqs(tn->vdev);
	kvfree(tn->txqs);
	kvfree(tn->rxqs);
}

static bool wants_split(const struct netdev_config *cfg)
{
	return cfg->hds_config == ETHTOOL_TCP_DATA_SPLIT_ENABLED;
}

static void ignore(struct virtqueue *vq, void *buf)
{
}

static int resize_queues(struct tbnet_rxq *rxq, struct tbnet_txq *txq)
{
	int ret = virtqueue_resize(rxq->vq, rxq->tn->rx_ring, ignore, NULL);

	return ret ? ret : virtqueue_resize(txq->vq, txq->tn->tx_ring, ignore, NULL);
}

static int up_pair(struct tbnet *tn, unsigned int i, const struct netdev_config *cfg)
{
	struct tbnet_rxq *rxq = &tn->rxqs[i];
	struct tbnet_txq *txq = &tn->txqs[i];
	struct tbnet_rx_mem mem;
	int ret;

	ret = resize_queues(rxq, txq);
	if (ret)
		return ret;
	ret = tbnet_tx_alloc(txq);
	if (ret)
		return ret;
	ret = tbnet_rx_mem_alloc(rxq, &mem, wants_split(cfg));
	if (ret)
		goto err_tx;
	ret = tbnet_rx_start(rxq, &mem, cfg->hds_thresh);
	if (ret)
		goto err_rx;
	tbnet_tx_start(txq);
	netif_queue_set_napi(tn->dev, i, NETDEV_QUEUE_TYPE_RX, &rxq->napi);
	netif_queue_set_napi(tn->dev, i, NETDEV_QUEUE_TYPE_TX, &txq->napi);
	return 0;

err_rx:
	tbnet_rx_mem_free(&mem);
err_tx:
	tbnet_tx_free(txq);
	return ret;
}

static void down_pair(struct tbnet *tn, unsigned int i)
{
	struct tbnet_rxq *rxq = &tn->rxqs[i];
	struct tbnet_txq *txq = &tn->txqs[i];
	struct tbnet_rx_mem mem;

	netif_queue_set_napi(tn->dev, i, NETDEV_QUEUE_TYPE_RX, NULL);
	netif_queue_set_napi(tn->dev, i, NETDEV_QUEUE_TYPE_TX, NULL);
	tbnet_tx_stop(txq);
	tbnet_tx_free(txq);
	tbnet_rx_stop(rxq, &mem);
	tbnet_rx_mem_free(&mem);
}

static void down_pairs(struct tbnet *tn, unsigned int num)
{
	while (num--)
		down_pair(tn, num);
}

/* Brings up the first tn->pairs pairs as @cfg says. Nothing is up after an error. */
int tbnet_up(struct tbnet *tn, const struct netdev_config *cfg)
{
	int ret;

	if (tbnet_gone(tn))
		return -ENODEV;
	for (unsigned int i = 0; i < tn->pairs; i++) {
		ret = up_pair(tn, i, cfg);
		if (ret) {
			down_pairs(tn, i);
			return ret;
		}
	}
	ret = tbnet_steer_apply(tn);
	if (ret) {
		down_pairs(tn, tn->pairs);
		return ret;
	}
	WRITE_ONCE(tn->started, true);
	netif_tx_wake_all_queues(tn->dev);
	return 0;
}

void tbnet_down(struct tbnet *tn)
{
	if (!tn->started)
		return;
	WRITE_ONCE(tn->started, false);
	netif_tx_disable(tn->dev);
	down_pairs(tn, tn->pairs);
}

/* What the core calls when a queue gets or loses a memory provider, the interface up or down. */

static int mem_alloc(struct net_device *dev, struct netdev_queue_config *qcfg, void *mem, int idx)
{
	struct tbnet *tn = netdev_priv(dev);

	if (netif_running(dev) && !tn->started)
		return -ENETDOWN;
	return tbnet_rx_mem_alloc(&tn->rxqs[idx], mem, wants_split(dev->cfg_pending));
}

static void mem_free(struct net_device *dev, void *mem)
{
	tbnet_rx_mem_free(mem);
}

static int queue_start(struct net_device *dev, struct netdev_queue_config *qcfg, void *mem, int idx)
{
	struct tbnet *tn = netdev_priv(dev);

	return tbnet_rx_start(&tn->rxqs[idx], mem, dev->cfg_pending->hds_thresh);
}

static int queue_stop(struct net_device *dev, void *mem, int idx)
{
	struct tbnet *tn = netdev_priv(dev);

	tbnet_rx_stop(&tn->rxqs[idx], mem);
	return 0;
}

static struct device *get_dma_dev(struct net_device *dev, int idx)
{
	struct tbnet *tn = netdev_priv(dev);

	return tn->dma_dev;
}

const struct netdev_queue_mgmt_ops tbnet_queue_mgmt_ops = {
	.ndo_queue_mem_size = sizeof(struct tbnet_rx_mem),
	.ndo_queue_mem_alloc = mem_alloc,
	.ndo_queue_mem_free = mem_free,
	.ndo_queue_start = queue_start,
	.ndo_queue_stop = queue_stop,
	.ndo_queue_get_dma_dev = get_dma_dev,
};
