// SPDX-License-Identifier: GPL-2.0
/* Which receive queue gets a packet that no rule matches: RSS. All under the instance lock. */
#include <linux/slab.h>
#include <linux/virtio_net.h>

#include "tbnet.h"

#define HASH_PORTS		(RXH_L4_B_0_1 | RXH_L4_B_2_3)
#define HASH_ADDRS		(RXH_IP_SRC | RXH_IP_DST)

int tbnet_steer_init(struct tbnet *tn)
{
	struct virtio_device *vdev = tn->vdev;
	struct tbnet_rss *rss = &tn->rss;

	if (tn->has_rss) {
		u16 table = virtio_cread16(vdev, offsetof(struct virtio_net_config,
						rss_max_indirection_table_length));

		rss->hash_types = cpu_to_le32(virtio_cread32(vdev,
				offsetof(struct virtio_net_config, supported_hash_types)));
		rss->table_size = rounddown_pow_of_two(clamp_t(u16, table, 1, TBNET_RSS_TABLE));
		netdev_rss_key_fill(rss->key, sizeof(rss->key));
	}
	if (tn->has_rules) {
		tn->rules = kvcalloc(tn->num_rules, sizeof(*tn->rules), GFP_KERNEL);
		if (!tn->rules)
			return -ENOMEM;
	}
	return 0;
}

void tbnet_steer_fini(struct tbnet *tn)
{
	kvfree(tn->rules);
}

static int send_rss(struct tbnet *tn)
{
	const struct tbnet_rss *rss = &tn->rss;
	struct virtio_net_rss_config_trailer *trailer;
	struct virtio_net_rss_config_hdr *hdr;
	size_t hdr_size = struct_size(hdr, indirection_table, rss->table_size);
	size_t size = hdr_size + sizeof(*trailer) + TBNET_RSS_KEY;
	void *cmd __free(kfree) = kzalloc(size, GFP_KERNEL);

	if (!cmd)
		return -ENOMEM;
	hdr = cmd;
	hdr->hash_types = rss->hash_types;
	hdr->indirection_table_mask = cpu_to_le16(rss->table_size - 1);
	for (unsigned int i = 0; i < rss->table_size; i++)
		hdr->indirection_table[i] = cpu_to_le16(rss->table[i]);
	trailer = cmd + hdr_size;
	trailer->max_tx_vq = cpu_to_le16(tn->pairs);
	trailer->hash_key_length = TBNET_RSS_KEY;
	memcpy(trailer->hash_key_data, rss->key, TBNET_RSS_KEY);
	return tbnet_ctrl(tn, VIRTIO_NET_CTRL_MQ, VIRTIO_NET_CTRL_MQ_RSS_CONFIG, cmd, size,
			  NULL, 0);
}

/* Tells the device how many pairs there are, and which packet goes to which. */
int tbnet_steer_apply(struct tbnet *tn)
{
	struct virtio_net_ctrl_mq mq = { .virtqueue_pairs = cpu_to_virtio16(tn->vdev, tn->pairs) };

	if (tn->has_rss) {
		if (!netif_is_rxfh_configured(tn->dev))
			for (unsigned int i = 0; i < tn->rss.table_size; i++)
				tn->rss.table[i] = ethtool_rxfh_indir_default(i, tn->pairs);
		return send_rss(tn);
	}
	if (!virtio_has_feature(tn->vdev, VIRTIO_NET_F_MQ))
		return 0;
	return tbnet_ctrl(tn, VIRTIO_NET_CTRL_MQ, VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET, &mq, sizeof(mq),
			  NULL, 0);
}

u32 tbnet_get_rx_ring_count(struct net_device *dev)
{
	struct tbnet *tn = netdev_priv(dev);

	return tn->pairs;
}

u32 tbnet_get_rxfh_key_size(struct net_device *dev)
{
	struct tbnet *tn = netdev_priv(dev);

	return tn->has_rss ? TBNET_RSS_KEY : 0;
}

u32 tbnet_get_rxfh_indir_size(struct net_device *dev)
{
	struct tbnet *tn = netdev_priv(dev);

	return tn->has_rss ? tn->rss.table_size : 0;
}

int tbnet_get_rxfh(struct net_device *dev, struct ethtool_rxfh_param *rxfh)
{
	struct tbnet *tn = netdev_priv(dev);

	if (!tn->has_rss)
		return -EOPNOTSUPP;
	rxfh->hfunc = ETH_RSS_HASH_TOP;
	if (rxfh->indir)
		for (unsigned int i = 0; i < tn->rss.table_size; i++)
			rxfh->indir[i] = tn->rss.table[i];
	if (rxfh->key)
		memcpy(rxfh->key, tn->rss.key, TBNET_RSS_KEY);
	return 0;
}

int tbnet_set_rxfh(struct net_device *dev, struct ethtool_rxfh_param *rxfh,
		   struct netlink_ext_ack *extack)
{
	struct tbnet *tn = netdev_priv(dev);
	struct tbnet_rss old = tn->rss;
	int ret;

	if (!tn->has_rss)
		return -EOPNOTSUPP;
	if (rxfh->hfunc != ETH_RSS_HASH_NO_CHANGE && rxfh->hfunc != ETH_RSS_HASH_TOP) {
		NL_SET_ERR_MSG(extack, "only the Toeplitz hash is there");
		return -EOPNOTSUPP;
	}
	if (rxfh->indir)
		for (unsigned int i = 0; i < tn->rss.table_size; i++)
			tn->rss.table[i] = rxfh->indir[i];
	if (rxfh->key)
		memcpy(tn->rss.key, rxfh->key, TBNET_RSS_KEY);
	ret = send_rss(tn);
	if (ret)
		tn->rss = old;
	return ret;
}

static u32 hash_type_ip(u32 flow_type)
{
	switch (flow_type) {
	case TCP_V4_FLOW:
	case UDP_V4_FLOW:
	case IPV4_FLOW:
		return VIRTIO_NET_RSS_HASH_TYPE_IPv4;
	case TCP_V6_FLOW:
	case UDP_V6_FLOW:
	case IPV6_FLOW:
		return VIRTIO_NET_RSS_HASH_TYPE_IPv6;
	default:
		return 0;
	}
}

static u32 hash_type_ports(u32 flow_type)
{
	switch (flow_type) {
	case TCP_V4_FLOW:
		return VIRTIO_NET_RSS_HASH_TYPE_TCPv4;
	case UDP_V4_FLOW:
		return VIRTIO_NET_RSS_HASH_TYPE_UDPv4;
	case TCP_V6_FLOW:
		return VIRTIO_NET_RSS_HASH_TYPE_TCPv6;
	case UDP_V6_FLOW:
		return VIRTIO_NET_RSS_HASH_TYPE_UDPv6;
	default:
		return 0;
	}
}

int tbnet_get_rxfh_fields(struct net_device *dev, struct ethtool_rxfh_fields *fields)
{
	struct tbnet *tn = netdev_priv(dev);
	u32 types = le32_to_cpu(tn->rss.hash_types);

	fields->data = 0;
	if (types & hash_type_ports(fields->flow_type))
		fields->data = HASH_ADDRS | HASH_PORTS;
	else if (types & hash_type_ip(fields->flow_type))
		fields->data = HASH_ADDRS;
	return 0;
}
