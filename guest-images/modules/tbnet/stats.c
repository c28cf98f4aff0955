// SPDX-License-Identifier: GPL-2.0
/* Counters: of the driver per queue, and of the device per pair as it sees them. */
#include "tbnet.h"

static const char * const hw_names[TBNET_HW_STATS] = {
	"rx_packets", "rx_bytes", "rx_split", "rx_unsplit", "rx_header_bytes", "rx_payload_bytes",
	"rx_drop_no_buffer", "rx_drop_queue", "rx_drop_rule", "rx_drop_error", "rx_csum_partial",
	"rx_csum_valid", "rx_csum_bad", "rx_gso", "rx_interrupts", "rx_buffers", "tx_packets",
	"tx_bytes", "tx_gso", "tx_csum", "tx_malformed", "tx_drop", "tx_interrupts", NULL,
};

static const struct {
	const char *name;
	size_t offset;
} rx_names[] = {
	{ "rx_split", offsetof(struct tbnet_rx_stats, split) },
	{ "rx_unsplit", offsetof(struct tbnet_rx_stats, unsplit) },
	{ "rx_alloc_fail", offsetof(struct tbnet_rx_stats, alloc_fail) },
	{ "rx_csum_bad", offsetof(struct tbnet_rx_stats, csum_bad) },
	{ "rx_dropped", offsetof(struct tbnet_rx_stats, dropped) },
	{ "rx_errors", offsetof(struct tbnet_rx_stats, errors) },
};

static u64 read_counter(const struct u64_stats_sync *syncp, const u64_stats_t *counter)
{
	unsigned int start;
	u64 value;

	do {
		start = u64_stats_fetch_begin(syncp);
		value = u64_stats_read(counter);
	} while (u64_stats_fetch_retry(syncp, start));
	return value;
}

static void get_queue_stats_rx(struct net_device *dev, int idx, struct netdev_queue_stats_rx *stats)
{
	struct tbnet *tn = netdev_priv(dev);
	struct tbnet_rxq *rxq = &tn->rxqs[idx];
	struct tbnet_rx_stats *from = &rxq->stats;

	stats->packets = read_counter(&rxq->syncp, &from->packets);
	stats->bytes = read_counter(&rxq->syncp, &from->bytes);
	stats->alloc_fail = read_counter(&rxq->syncp, &from->alloc_fail);
	stats->csum_none = read_counter(&rxq->syncp, &from->csum_none);
	stats->csum_unnecessary = read_counter(&rxq->syncp, &from->csum_unnecessary);
	stats->csum_bad = read_counter(&rxq->syncp, &from->csum_bad);
	stats->hw_gro_packets = read_counter(&rxq->syncp, &from->gso_packets);
	stats->hw_gro_bytes = read_counter(&rxq->syncp, &from->gso_bytes);
}

static void get_queue_stats_tx(struct net_device *dev, int idx, struct netdev_queue_stats_tx *stats)
{
	struct tbnet *tn = netdev_priv(dev);
	struct tbnet_txq *txq = &tn->txqs[idx];
	struct tbnet_tx_stats *from = &txq->stats;

	stats->packets = read_counter(&txq->syncp, &from->packets);
	stats->bytes = read_counter(&txq->syncp, &from->bytes);
	stats->csum_none = read_counter(&txq->syncp, &from->csum_none);
	stats->needs_csum = read_counter(&txq->syncp, &from->needs_csum);
	stats->hw_gso_packets = read_counter(&txq->syncp, &from->gso_packets);
	stats->hw_gso_bytes = read_counter(&txq->syncp, &from->gso_bytes);
	stats->stop = read_counter(&txq->syncp, &from->stop);
	stats->wake = read_counter(&txq->syncp, &from->wake);
}

/* What queues counted that are not in use now */
static void get_base_stats(struct net_device *dev, struct netdev_queue_stats_rx *rx,
			   struct netdev_queue_stats_tx *tx)
{
	struct tbnet *tn = netdev_priv(dev);

	rx->packets = 0;
	rx->bytes = 0;
	rx->alloc_fail = 0;
	rx->csum_none = 0;
	rx->csum_unnecessary = 0;
	rx->csum_bad = 0;
	rx->hw_gro_packets = 0;
	rx->hw_gro_bytes = 0;
	tx->packets = 0;
	tx->bytes = 0;
	tx->csum_none = 0;
	tx->needs_csum = 0;
	tx->hw_gso_packets = 0;
	tx->hw_gso_bytes = 0;
	tx->stop = 0;
	tx->wake = 0;
	netdev_stat_queue_sum(dev, dev->real_num_rx_queues, tn->max_pairs, rx,
			      dev->real_num_tx_queues, tn->max_pairs, tx);
}

const struct netdev_stat_ops tbnet_stat_ops = {
	.get_queue_stats_rx = get_queue_stats_rx,
	.get_queue_stats_tx = get_queue_stats_tx,
	.get_base_stats = get_base_stats,
};

void tbnet_get_stats64(struct net_device *dev, struct rtnl_link_stats64 *stats)
{
	struct tbnet *tn = netdev_priv(dev);

	for (unsigned int i = 0; i < tn->max_pairs; i++) {
		struct tbnet_rxq *rxq = &tn->rxqs[i];
		struct tbnet_txq *txq = &tn->txqs[i];

		stats->rx_packets += read_counter(&rxq->syncp, &rxq->stats.packets);
		stats->rx_bytes += read_counter(&rxq->syncp, &rxq->stats.bytes);
		stats->rx_dropped += read_counter(&rxq->syncp, &rxq->stats.dropped);
		stats->rx_length_errors += read_counter(&rxq->syncp, &rxq->stats.errors);
		stats->tx_packets += read_counter(&txq->syncp, &txq->stats.packets);
		stats->tx_bytes += read_counter(&txq->syncp, &txq->stats.bytes);
		stats->tx_dropped += read_counter(&txq->syncp, &txq->stats.dropped);
	}
	stats->rx_errors = stats->rx_length_errors;
}

static bool is_counter(unsigned int n)
{
	return hw_names[n];
}

int tbnet_get_sset_count(struct net_device *dev, int set)
{
	struct tbnet *tn = netdev_priv(dev);
	unsigned int per_pair = ARRAY_SIZE(rx_names);

	if (set != ETH_SS_STATS)
		return -EOPNOTSUPP;
	for (unsigned int n = 0; tn->has_stats && n < TBNET_HW_STATS; n++)
		per_pair += is_counter(n);
	return tn->max_pairs * per_pair;
}

void tbnet_get_strings(struct net_device *dev, u32 set, u8 *data)
{
	struct tbnet *tn = netdev_priv(dev);

	if (set != ETH_SS_STATS)
		return;
	for (unsigned int i = 0; i < tn->max_pairs; i++) {
		for (unsigned int n = 0; n < ARRAY_SIZE(rx_names); n++)
			ethtool_sprintf(&data, "q%u_%s", i, rx_names[n].name);
		for (unsigned int n = 0; tn->has_stats && n < TBNET_HW_STATS; n++)
			if (is_counter(n))
				ethtool_sprintf(&data, "q%u_hw_%s", i, hw_names[n]);
	}
}

static u64 *put_hw_stats(struct tbnet *tn, unsigned int pair, u64 *data)
{
	__le64 counters[TBNET_HW_STATS] = {};
	__le16 cmd = cpu_to_le16(pair);

	/* A device that does not answer counts nothing. */
	if (tbnet_gone(tn) || tbnet_ctrl(tn, TBNET_CTRL_STATS, TBNET_CTRL_STATS_GET, &cmd,
					 sizeof(cmd), counters, sizeof(counters)))
		memset(counters, 0, sizeof(counters));
	for (unsigned int n = 0; n < TBNET_HW_STATS; n++)
		if (is_counter(n))
			*data++ = le64_to_cpu(counters[n]);
	return data;
}

void tbnet_get_ethtool_stats(struct net_device *dev, struct ethtool_stats *stats, u64 *data)
{
	struct tbnet *tn = netdev_priv(dev);

	for (unsigned int i = 0; i < tn->max_pairs; i++) {
		struct tbnet_rxq *rxq = &tn->rxqs[i];

		for (unsigned int n = 0; n < ARRAY_SIZE(rx_names); n++)
			*data++ = read_counter(&rxq->syncp,
					       (void *)&rxq->stats + rx_names[n].offset);
		if (tn->has_stats)
			data = put_hw_stats(tn, i, data);
	}
}
