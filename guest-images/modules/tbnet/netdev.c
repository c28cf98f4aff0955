// SPDX-License-Identifier: GPL-2.0
/* What the network core asks of an interface. */
#include <linux/slab.h>
#include <linux/virtio_net.h>

#include "tbnet.h"

/* More addresses than this and the device passes all of the kind. */
#define MAX_ADDRS	160

static int tbnet_open(struct net_device *dev)
{
	struct tbnet *tn = netdev_priv(dev);
	int ret = tbnet_up(tn, dev->cfg_pending);

	if (!ret)
		schedule_work(&tn->config_work);
	return ret;
}

static int tbnet_stop(struct net_device *dev)
{
	struct tbnet *tn = netdev_priv(dev);

	netif_carrier_off(dev);
	tbnet_down(tn);
	return 0;
}

static u8 *put_addrs(u8 *to, const struct netdev_hw_addr_list *list, unsigned int num)
{
	const struct netdev_hw_addr *ha;

	put_unaligned_le32(num, to);
	to += sizeof(__le32);
	if (!num)
		return to;
	netdev_hw_addr_list_for_each(ha, list) {
		ether_addr_copy(to, ha->addr);
		to += ETH_ALEN;
	}
	return to;
}

static int set_addrs(struct tbnet *tn, struct netdev_hw_addr_list *uc,
		     struct netdev_hw_addr_list *mc, bool promisc, bool allmulti)
{
	unsigned int num_uc = promisc ? 0 : netdev_hw_addr_list_count(uc);
	unsigned int num_mc = allmulti ? 0 : netdev_hw_addr_list_count(mc);
	size_t size = 2 * sizeof(__le32) + (num_uc + num_mc) * ETH_ALEN;
	u8 *table __free(kfree) = kmalloc(size, GFP_KERNEL);

	if (!table)
		return -ENOMEM;
	put_addrs(put_addrs(table, uc, num_uc), mc, num_mc);
	return tbnet_ctrl(tn, VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_TABLE_SET, table, size,
			  NULL, 0);
}

static int tbnet_set_rx_mode(struct net_device *dev, struct netdev_hw_addr_list *uc,
			     struct netdev_hw_addr_list *mc)
{
	struct tbnet *tn = netdev_priv(dev);
	bool promisc = dev->flags & IFF_PROMISC || netdev_hw_addr_list_count(uc) > MAX_ADDRS;
	bool allmulti = dev->flags & IFF_ALLMULTI || netdev_hw_addr_list_count(mc) > MAX_ADDRS;
	int ret;

	if (tbnet_gone(tn))
		return 0;
	ret = tbnet_ctrl_u8(tn, VIRTIO_NET_CTRL_RX, VIRTIO_NET_CTRL_RX_PROMISC, promisc);
	if (!ret)
		ret = tbnet_ctrl_u8(tn, VIRTIO_NET_CTRL_RX, VIRTIO_NET_CTRL_RX_ALLMULTI, allmulti);
	if (!ret)
		ret = set_addrs(tn, uc, mc, promisc, allmulti);
	return ret;
}

static int tbnet_set_mac_address(struct net_device *dev, void *addr)
{
	struct tbnet *tn = netdev_priv(dev);
	struct sockaddr *sa = addr;
	int ret = eth_prepare_mac_addr_change(dev, addr);

	if (!ret)
		ret = tbnet_ctrl(tn, VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_ADDR_SET, sa->sa_data,
				 ETH_ALEN, NULL, 0);
	if (!ret)
		eth_commit_mac_addr_change(dev, addr);
	return ret;
}

static int tbnet_change_mtu(struct net_device *dev, int mtu)
{
	WRITE_ONCE(dev->mtu, mtu);
	return 0;
}

static u64 offloads(const struct tbnet *tn, netdev_features_t features)
{
	u64 bits = 0;

	if (!(features & NETIF_F_RXCSUM))
		return 0;
	bits |= BIT_ULL(VIRTIO_NET_F_GUEST_CSUM);
	if (!(features & NETIF_F_GRO_HW))
		return bits;
	for (unsigned int i = VIRTIO_NET_F_GUEST_TSO4; i <= VIRTIO_NET_F_GUEST_ECN; i++)
		if (virtio_has_feature(tn->vdev, i))
			bits |= BIT_ULL(i);
	return bits;
}

static netdev_features_t tbnet_fix_features(struct net_device *dev, netdev_features_t features)
{
	if (!(features & NETIF_F_RXCSUM))
		features &= ~NETIF_F_GRO_HW;
	return features;
}

static int tbnet_set_features(struct net_device *dev, netdev_features_t features)
{
	struct tbnet *tn = netdev_priv(dev);
	__le64 bits = cpu_to_le64(offloads(tn, features));

	if (!((dev->features ^ features) & (NETIF_F_RXCSUM | NETIF_F_GRO_HW)))
		return 0;
	if (!virtio_has_feature(tn->vdev, VIRTIO_NET_F_CTRL_GUEST_OFFLOADS))
		return -EOPNOTSUPP;
	return tbnet_ctrl(tn, VIRTIO_NET_CTRL_GUEST_OFFLOADS, VIRTIO_NET_CTRL_GUEST_OFFLOADS_SET,
			  &bits, sizeof(bits), NULL, 0);
}

static void tbnet_tx_timeout(struct net_device *dev, unsigned int index)
{
	struct tbnet *tn = netdev_priv(dev);
	struct tbnet_txq *txq = &tn->txqs[index];

	u64_stats_update_begin(&txq->syncp);
	u64_stats_inc(&txq->stats.timeouts);
	u64_stats_update_end(&txq->syncp);
	netdev_err(dev, "transmit queue %u: nothing sent for a while, %u descriptors free\n", index,
		   txq->vq->num_free);
	napi_schedule(&txq->napi);
}

static const struct net_device_ops tbnet_netdev_ops = {
	.ndo_open = tbnet_open,
	.ndo_stop = tbnet_stop,
	.ndo_start_xmit = tbnet_start_xmit,
	.ndo_set_rx_mode_async = tbnet_set_rx_mode,
	.ndo_set_mac_address = tbnet_set_mac_address,
	.ndo_validate_addr = eth_validate_addr,
	.ndo_change_mtu = tbnet_change_mtu,
	.ndo_fix_features = tbnet_fix_features,
	.ndo_set_features = tbnet_set_features,
	.ndo_tx_timeout = tbnet_tx_timeout,
	.ndo_get_stats64 = tbnet_get_stats64,
};

static netdev_features_t find_features(const struct tbnet *tn)
{
	struct virtio_device *vdev = tn->vdev;
	netdev_features_t features = NETIF_F_SG;

	if (virtio_has_feature(vdev, VIRTIO_NET_F_CSUM))
		features |= NETIF_F_HW_CSUM;
	if (virtio_has_feature(vdev, VIRTIO_NET_F_HOST_TSO4))
		features |= NETIF_F_TSO;
	if (virtio_has_feature(vdev, VIRTIO_NET_F_HOST_TSO6))
		features |= NETIF_F_TSO6;
	if (virtio_has_feature(vdev, VIRTIO_NET_F_HOST_ECN))
		features |= NETIF_F_TSO_ECN;
	if (virtio_has_feature(vdev, VIRTIO_NET_F_GUEST_CSUM))
		features |= NETIF_F_RXCSUM;
	if (virtio_has_feature(vdev, VIRTIO_NET_F_GUEST_TSO4) &&
	    virtio_has_feature(vdev, VIRTIO_NET_F_GUEST_TSO6))
		features |= NETIF_F_GRO_HW;
	if (tn->has_rules)
		features |= NETIF_F_NTUPLE;
	if (tn->has_rss && tn->has_split)
		features |= NETIF_F_RXHASH;
	return features;
}

void tbnet_netdev_init(struct tbnet *tn)
{
	struct virtio_device *vdev = tn->vdev;
	struct net_device *dev = tn->dev;
	u8 addr[ETH_ALEN];
	u16 mtu;

	dev->netdev_ops = &tbnet_netdev_ops;
	dev->ethtool_ops = &tbnet_ethtool_ops;
	dev->stat_ops = &tbnet_stat_ops;
	dev->queue_mgmt_ops = &tbnet_queue_mgmt_ops;
	dev->netmem_tx = NETMEM_TX_DMA;
	dev->hw_features = find_features(tn);
	dev->features = dev->hw_features | NETIF_F_HIGHDMA;
	if (!virtio_has_feature(vdev, VIRTIO_NET_F_CTRL_GUEST_OFFLOADS))
		dev->hw_features &= ~(NETIF_F_RXCSUM | NETIF_F_GRO_HW);
	dev->vlan_features = dev->features & ~NETIF_F_NTUPLE;
	dev->priv_flags |= IFF_UNICAST_FLT | IFF_LIVE_ADDR_CHANGE;

	virtio_cread_bytes(vdev, offsetof(struct virtio_net_config, mac), addr, ETH_ALEN);
	if (is_valid_ether_addr(addr))
		eth_hw_addr_set(dev, addr);
	else
		eth_hw_addr_random(dev);
	mtu = virtio_cread16(vdev, offsetof(struct virtio_net_config, mtu));
	dev->min_mtu = ETH_MIN_MTU;
	dev->max_mtu = max_t(u16, mtu, ETH_MIN_MTU);
	dev->mtu = dev->max_mtu;
}
