// SPDX-License-Identifier: GPL-2.0
/* Rings with header split, channels, link, and the table of what ethtool can ask. */
#include <linux/log2.h>
#include <linux/virtio_net.h>

#include "tbnet.h"

static void tbnet_get_ringparam(struct net_device *dev, struct ethtool_ringparam *ring,
				struct kernel_ethtool_ringparam *kernel_ring,
				struct netlink_ext_ack *extack)
{
	struct tbnet *tn = netdev_priv(dev);

	ring->rx_max_pending = tn->max_ring;
	ring->tx_max_pending = tn->max_ring;
	ring->rx_pending = tn->rx_ring;
	ring->tx_pending = tn->tx_ring;
	if (!tn->has_split)
		return;
	if (dev->cfg->hds_config == ETHTOOL_TCP_DATA_SPLIT_UNKNOWN)
		kernel_ring->tcp_data_split = ETHTOOL_TCP_DATA_SPLIT_DISABLED;
	kernel_ring->hds_thresh_max = TBNET_MAX_THRESHOLD;
}

static int check_ring(u32 size, struct netlink_ext_ack *extack)
{
	if (size >= TBNET_MIN_RING && is_power_of_2(size))
		return 0;
	NL_SET_ERR_MSG_FMT(extack, "a ring is a power of two from %u", TBNET_MIN_RING);
	return -EINVAL;
}

/* Goes down and up again. If it does not come up with what is new, it does with what was. */
static int tbnet_set_ringparam(struct net_device *dev, struct ethtool_ringparam *ring,
			       struct kernel_ethtool_ringparam *kernel_ring,
			       struct netlink_ext_ack *extack)
{
	struct tbnet *tn = netdev_priv(dev);
	unsigned int rx_ring = tn->rx_ring, tx_ring = tn->tx_ring;
	int ret;

	if (!tn->has_split && kernel_ring->tcp_data_split == ETHTOOL_TCP_DATA_SPLIT_ENABLED) {
		NL_SET_ERR_MSG(extack, "the device does not split headers");
		return -EOPNOTSUPP;
	}
	ret = check_ring(ring->rx_pending, extack);
	if (!ret)
		ret = check_ring(ring->tx_pending, extack);
	if (ret)
		return ret;
	tn->rx_ring = ring->rx_pending;
	tn->tx_ring = ring->tx_pending;
	if (!netif_running(dev))
		return 0;
	tbnet_down(tn);
	ret = tbnet_up(tn, dev->cfg_pending);
	if (!ret)
		return 0;
	NL_SET_ERR_MSG(extack, "the queues did not start");
	tn->rx_ring = rx_ring;
	tn->tx_ring = tx_ring;
	if (tbnet_up(tn, dev->cfg))
		netdev_err(dev, "the queues did not start again either\n");
	return ret;
}

static void tbnet_get_channels(struct net_device *dev, struct ethtool_channels *channels)
{
	struct tbnet *tn = netdev_priv(dev);

	channels->max_combined = tn->max_pairs;
	channels->combined_count = tn->pairs;
}

static int set_pairs(struct tbnet *tn, unsigned int pairs)
{
	int ret = netif_set_real_num_queues(tn->dev, pairs, pairs);

	if (ret)
		return ret;
	tn->pairs = pairs;
	return netif_running(tn->dev) ? tbnet_up(tn, tn->dev->cfg) : 0;
}

/* The core has refused what would take away a queue that RSS, a rule or a memory provider uses. */
static int tbnet_set_channels(struct net_device *dev, struct ethtool_channels *channels)
{
	struct tbnet *tn = netdev_priv(dev);
	unsigned int old = tn->pairs;
	int ret;

	if (channels->rx_count || channels->tx_count || channels->other_count)
		return -EINVAL;
	if (channels->combined_count == old)
		return 0;
	tbnet_down(tn);
	ret = set_pairs(tn, channels->combined_count);
	if (ret && set_pairs(tn, old))
		netdev_err(dev, "the queues did not start again\n");
	return ret;
}

static int tbnet_get_link_ksettings(struct net_device *dev, struct ethtool_link_ksettings *settings)
{
	struct tbnet *tn = netdev_priv(dev);

	settings->base.port = PORT_OTHER;
	settings->base.speed = SPEED_UNKNOWN;
	settings->base.duplex = DUPLEX_UNKNOWN;
	if (virtio_has_feature(tn->vdev, VIRTIO_NET_F_SPEED_DUPLEX) && netif_carrier_ok(dev)) {
		settings->base.speed = virtio_cread32(tn->vdev,
				offsetof(struct virtio_net_config, speed));
		settings->base.duplex = virtio_cread8(tn->vdev,
				offsetof(struct virtio_net_config, duplex));
	}
	return 0;
}

const struct ethtool_ops tbnet_ethtool_ops = {
	.supported_ring_params = ETHTOOL_RING_USE_TCP_DATA_SPLIT | ETHTOOL_RING_USE_HDS_THRS,
	.op_needs_rtnl = ETHTOOL_OP_NEEDS_RTNL_SCHANNELS | ETHTOOL_OP_NEEDS_RTNL_GLINK,
	.get_link = ethtool_op_get_link,
	.get_link_ksettings = tbnet_get_link_ksettings,
	.get_ringparam = tbnet_get_ringparam,
	.set_ringparam = tbnet_set_ringparam,
	.get_channels = tbnet_get_channels,
	.set_channels = tbnet_set_channels,
	.get_rx_ring_count = tbnet_get_rx_ring_count,
	.get_rxfh_key_size = tbnet_get_rxfh_key_size,
	.get_rxfh_indir_size = tbnet_get_rxfh_indir_size,
	.get_rxfh = tbnet_get_rxfh,
	.set_rxfh = tbnet_set_rxfh,
	.get_rxfh_fields = tbnet_get_rxfh_fields,
	.get_rxnfc = tbnet_get_rxnfc,
	.set_rxnfc = tbnet_set_rxnfc,
	.get_sset_count = tbnet_get_sset_count,
	.get_strings = tbnet_get_strings,
	.get_ethtool_stats = tbnet_get_ethtool_stats,
};
