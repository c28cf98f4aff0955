// SPDX-License-Identifier: GPL-2.0
/* Receive rules: what ethtool calls n-tuple filters. All under the instance lock. */
#include "tbnet.h"

#define FLOW_TYPE(spec)		((spec)->flow_type & ~(FLOW_EXT | FLOW_MAC_EXT | FLOW_RSS))

static void put_rule4(struct tbnet_rule *rule, __be32 src, __be32 src_mask, __be32 dst,
		      __be32 dst_mask)
{
	rule->ip_version = 4;
	memcpy(rule->src, &src, sizeof(src));
	memcpy(rule->src_mask, &src_mask, sizeof(src_mask));
	memcpy(rule->dst, &dst, sizeof(dst));
	memcpy(rule->dst_mask, &dst_mask, sizeof(dst_mask));
}

static void put_rule6(struct tbnet_rule *rule, const __be32 *src, const __be32 *src_mask,
		      const __be32 *dst, const __be32 *dst_mask)
{
	rule->ip_version = 6;
	memcpy(rule->src, src, sizeof(rule->src));
	memcpy(rule->src_mask, src_mask, sizeof(rule->src_mask));
	memcpy(rule->dst, dst, sizeof(rule->dst));
	memcpy(rule->dst_mask, dst_mask, sizeof(rule->dst_mask));
}

static void put_ports(struct tbnet_rule *rule, u8 protocol, __be16 sport, __be16 sport_mask,
		      __be16 dport, __be16 dport_mask)
{
	rule->protocol = protocol;
	rule->sport = sport;
	rule->sport_mask = sport_mask;
	rule->dport = dport;
	rule->dport_mask = dport_mask;
}

static int put_l4_v4(struct tbnet_rule *rule, const struct ethtool_rx_flow_spec *spec, u8 protocol)
{
	const struct ethtool_tcpip4_spec *h = &spec->h_u.tcp_ip4_spec;
	const struct ethtool_tcpip4_spec *m = &spec->m_u.tcp_ip4_spec;

	if (m->tos)
		return -EOPNOTSUPP;
	put_rule4(rule, h->ip4src, m->ip4src, h->ip4dst, m->ip4dst);
	put_ports(rule, protocol, h->psrc, m->psrc, h->pdst, m->pdst);
	return 0;
}

static int put_l4_v6(struct tbnet_rule *rule, const struct ethtool_rx_flow_spec *spec, u8 protocol)
{
	const struct ethtool_tcpip6_spec *h = &spec->h_u.tcp_ip6_spec;
	const struct ethtool_tcpip6_spec *m = &spec->m_u.tcp_ip6_spec;

	if (m->tclass)
		return -EOPNOTSUPP;
	put_rule6(rule, h->ip6src, m->ip6src, h->ip6dst, m->ip6dst);
	put_ports(rule, protocol, h->psrc, m->psrc, h->pdst, m->pdst);
	return 0;
}

static int put_l3_v4(struct tbnet_rule *rule, const struct ethtool_rx_flow_spec *spec)
{
	const struct ethtool_usrip4_spec *h = &spec->h_u.usr_ip4_spec;
	const struct ethtool_usrip4_spec *m = &spec->m_u.usr_ip4_spec;

	if (m->tos || m->l4_4_bytes || m->ip_ver || (m->proto && m->proto != 0xff))
		return -EOPNOTSUPP;
	put_rule4(rule, h->ip4src, m->ip4src, h->ip4dst, m->ip4dst);
	rule->protocol = m->proto ? h->proto : 0;
	return 0;
}

static int put_l3_v6(struct tbnet_rule *rule, const struct ethtool_rx_flow_spec *spec)
{
	const struct ethtool_usrip6_spec *h = &spec->h_u.usr_ip6_spec;
	const struct ethtool_usrip6_spec *m = &spec->m_u.usr_ip6_spec;

	if (m->tclass || m->l4_4_bytes || (m->l4_proto && m->l4_proto != 0xff))
		return -EOPNOTSUPP;
	put_rule6(rule, h->ip6src, m->ip6src, h->ip6dst, m->ip6dst);
	rule->protocol = m->l4_proto ? h->l4_proto : 0;
	return 0;
}

static int put_flow(struct tbnet_rule *rule, const struct ethtool_rx_flow_spec *spec)
{
	switch (FLOW_TYPE(spec)) {
	case TCP_V4_FLOW:
		return put_l4_v4(rule, spec, IPPROTO_TCP);
	case UDP_V4_FLOW:
		return put_l4_v4(rule, spec, IPPROTO_UDP);
	case TCP_V6_FLOW:
		return put_l4_v6(rule, spec, IPPROTO_TCP);
	case UDP_V6_FLOW:
		return put_l4_v6(rule, spec, IPPROTO_UDP);
	case IPV4_USER_FLOW:
		return put_l3_v4(rule, spec);
	case IPV6_USER_FLOW:
		return put_l3_v6(rule, spec);
	default:
		return -EOPNOTSUPP;
	}
}

static int put_vlan(struct tbnet_rule *rule, const struct ethtool_rx_flow_spec *spec)
{
	if (!(spec->flow_type & FLOW_EXT))
		return 0;
	if (spec->m_ext.vlan_etype || spec->m_ext.data[0] || spec->m_ext.data[1])
		return -EOPNOTSUPP;
	rule->vlan = cpu_to_le16(be16_to_cpu(spec->h_ext.vlan_tci));
	rule->vlan_mask = cpu_to_le16(be16_to_cpu(spec->m_ext.vlan_tci));
	return 0;
}

static int put_queue(const struct tbnet *tn, struct tbnet_rule *rule, u64 cookie)
{
	if (cookie == RX_CLS_FLOW_DISC) {
		rule->queue = cpu_to_le16(TBNET_RULE_DROP);
		return 0;
	}
	if (cookie >= tn->pairs)
		return -EINVAL;
	rule->queue = cpu_to_le16(cookie);
	return 0;
}

static int pick_location(const struct tbnet *tn, u32 *location)
{
	if (*location != RX_CLS_LOC_ANY)
		return *location < tn->num_rules ? 0 : -EINVAL;
	for (u32 i = tn->num_rules; i--;)
		if (!tn->rules[i].flow_type) {
			*location = i;
			return 0;
		}
	return -ENOSPC;
}

static int insert_rule(struct tbnet *tn, struct ethtool_rx_flow_spec *spec)
{
	struct tbnet_rule rule = {};
	__le32 location;
	int ret;

	if (spec->flow_type & (FLOW_MAC_EXT | FLOW_RSS))
		return -EOPNOTSUPP;
	ret = put_flow(&rule, spec);
	if (!ret)
		ret = put_vlan(&rule, spec);
	if (!ret)
		ret = put_queue(tn, &rule, spec->ring_cookie);
	if (!ret)
		ret = pick_location(tn, &spec->location);
	if (ret)
		return ret;
	rule.location = cpu_to_le32(spec->location);
	ret = tbnet_ctrl(tn, TBNET_CTRL_RULE, TBNET_CTRL_RULE_INSERT, &rule, sizeof(rule),
			 &location, sizeof(location));
	if (!ret)
		tn->rules[spec->location] = *spec;
	return ret;
}

static int delete_rule(struct tbnet *tn, u32 index)
{
	__le32 location = cpu_to_le32(index);
	int ret;

	if (index >= tn->num_rules || !tn->rules[index].flow_type)
		return -ENOENT;
	ret = tbnet_ctrl(tn, TBNET_CTRL_RULE, TBNET_CTRL_RULE_DELETE, &location, sizeof(location),
			 NULL, 0);
	if (!ret)
		memset(&tn->rules[index], 0, sizeof(tn->rules[index]));
	return ret;
}

int tbnet_set_rxnfc(struct net_device *dev, struct ethtool_rxnfc *nfc)
{
	struct tbnet *tn = netdev_priv(dev);

	if (!tn->has_rules)
		return -EOPNOTSUPP;
	switch (nfc->cmd) {
	case ETHTOOL_SRXCLSRLINS:
		return insert_rule(tn, &nfc->fs);
	case ETHTOOL_SRXCLSRLDEL:
		return delete_rule(tn, nfc->fs.location);
	default:
		return -EOPNOTSUPP;
	}
}

/* The number of rules; their locations too if there is a place for them */
static int list_rules(const struct tbnet *tn, u32 *locations, u32 room)
{
	u32 count = 0;

	for (u32 i = 0; i < tn->num_rules; i++) {
		if (!tn->rules[i].flow_type)
			continue;
		if (locations && count == room)
			return -EMSGSIZE;
		if (locations)
			locations[count] = i;
		count++;
	}
	return count;
}

int tbnet_get_rxnfc(struct net_device *dev, struct ethtool_rxnfc *nfc, u32 *locations)
{
	struct tbnet *tn = netdev_priv(dev);
	int count;

	if (!tn->has_rules)
		return -EOPNOTSUPP;
	switch (nfc->cmd) {
	case ETHTOOL_GRXCLSRLCNT:
		nfc->rule_cnt = list_rules(tn, NULL, 0);
		nfc->data = tn->num_rules | RX_CLS_LOC_SPECIAL;
		return 0;
	case ETHTOOL_GRXCLSRULE:
		if (nfc->fs.location >= tn->num_rules || !tn->rules[nfc->fs.location].flow_type)
			return -ENOENT;
		nfc->fs = tn->rules[nfc->fs.location];
		return 0;
	case ETHTOOL_GRXCLSRLALL:
		count = list_rules(tn, locations, nfc->rule_cnt);
		if (count < 0)
			return count;
		nfc->rule_cnt = count;
		nfc->data = tn->num_rules;
		return 0;
	default:
		return -EOPNOTSUPP;
	}
}
