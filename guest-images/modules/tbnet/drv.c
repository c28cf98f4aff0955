// SPDX-License-Identifier: GPL-2.0
/* Probe, remove, features, and what the device has to say by itself. */
#include <linux/module.h>

#include "tbnet.h"

static bool is_present(struct tbnet *tn)
{
	struct device *parent = tn->vdev->dev.parent;

	return !dev_is_pci(parent) || pci_device_is_present(to_pci_dev(parent));
}

/* True for good: pulled out, does not answer, or wants a reset. May sleep. */
bool tbnet_gone(struct tbnet *tn)
{
	if (READ_ONCE(tn->lost) || virtqueue_is_broken(tn->ctrl.vq))
		return true;
	if (is_present(tn))
		return false;
	WRITE_ONCE(tn->lost, true);
	return true;
}

static void config_work(struct work_struct *work)
{
	struct tbnet *tn = container_of(work, struct tbnet, config_work);
	struct virtio_device *vdev = tn->vdev;
	u16 status;

	if (tbnet_gone(tn))
		return;
	if (vdev->config->get_status(vdev) & VIRTIO_CONFIG_S_NEEDS_RESET) {
		dev_err(&vdev->dev, "the device wants a reset: unbind and bind the driver\n");
		WRITE_ONCE(tn->lost, true);
		netif_carrier_off(tn->dev);
		return;
	}
	virtio_cread(vdev, struct virtio_net_config, status, &status);
	if (status & VIRTIO_NET_S_LINK_UP && netif_running(tn->dev))
		netif_carrier_on(tn->dev);
	else
		netif_carrier_off(tn->dev);
}

static void tbnet_config_changed(struct virtio_device *vdev)
{
	struct tbnet *tn = vdev->priv;

	schedule_work(&tn->config_work);
}

/* What the driver is built on; the rest it can do without. */
static int tbnet_validate(struct virtio_device *vdev)
{
	static const unsigned int needed[] = {
		VIRTIO_F_VERSION_1, VIRTIO_F_ACCESS_PLATFORM, VIRTIO_F_RING_RESET,
		VIRTIO_NET_F_CTRL_VQ, VIRTIO_NET_F_CTRL_RX, VIRTIO_NET_F_CTRL_MAC_ADDR,
		VIRTIO_NET_F_MRG_RXBUF, VIRTIO_NET_F_MAC, VIRTIO_NET_F_MTU, VIRTIO_NET_F_STATUS,
	};

	if (!vdev->config->get)
		return -EINVAL;
	for (unsigned int i = 0; i < ARRAY_SIZE(needed); i++)
		if (!virtio_has_feature(vdev, needed[i])) {
			dev_err(&vdev->dev, "the device has no feature %u\n", needed[i]);
			return -EINVAL;
		}
	return 0;
}

static int check_extension(struct tbnet *tn)
{
	struct virtio_device *vdev = tn->vdev;
	u32 magic = virtio_cread32(vdev, TBNET_CFG_MAGIC);
	u16 version = virtio_cread16(vdev, TBNET_CFG_VERSION);

	if (magic != TBNET_MAGIC || version >> 8 != TBNET_VERSION_MAJOR)
		return dev_err_probe(&vdev->dev, -EINVAL, "extension %#x version %#x is unknown\n",
				     magic, version);
	if (virtio_cread16(vdev, TBNET_CFG_RX_HDR_SIZE) != sizeof(struct tbnet_rx_hdr) ||
	    virtio_cread16(vdev, TBNET_CFG_RULE_SIZE) != sizeof(struct tbnet_rule) ||
	    virtio_cread16(vdev, TBNET_CFG_STATS_COUNT) != TBNET_HW_STATS)
		return dev_err_probe(&vdev->dev, -EINVAL, "structures have other sizes\n");
	return 0;
}

static int find_abilities(struct tbnet *tn)
{
	struct virtio_device *vdev = tn->vdev;
	int ret;

	tn->has_split = virtio_has_feature(vdev, TBNET_F_HDR_SPLIT);
	tn->has_rules = virtio_has_feature(vdev, TBNET_F_NTUPLE);
	tn->has_stats = virtio_has_feature(vdev, TBNET_F_QUEUE_STATS);
	tn->has_rss = virtio_has_feature(vdev, VIRTIO_NET_F_RSS);
	tn->rx_hdr_size = tn->has_split ? sizeof(struct tbnet_rx_hdr) :
			  sizeof(struct virtio_net_hdr_v1);
	if (!tn->has_split && !tn->has_rules && !tn->has_stats)
		return 0;
	ret = check_extension(tn);
	if (ret || !tn->has_rules)
		return ret;
	tn->num_rules = min(virtio_cread32(vdev, TBNET_CFG_RULES), TBNET_MAX_RULES);
	return 0;
}

static unsigned int find_max_pairs(struct virtio_device *vdev)
{
	u16 pairs = 1;

	if (virtio_has_feature(vdev, VIRTIO_NET_F_MQ))
		pairs = virtio_cread16(vdev, offsetof(struct virtio_net_config,
						      max_virtqueue_pairs));
	return clamp_t(u16, pairs, 1, VIRTIO_NET_CTRL_MQ_VQ_PAIRS_MAX);
}

static int init_device(struct tbnet *tn)
{
	int ret = find_abilities(tn);

	if (ret)
		return ret;
	ret = tbnet_ctrl_init(tn);
	if (ret)
		return ret;
	ret = tbnet_queues_init(tn);
	if (ret)
		goto err_ctrl;
	ret = tbnet_steer_init(tn);
	if (ret)
		goto err_queues;
	return 0;

err_queues:
	virtio_reset_device(tn->vdev);
	tbnet_queues_fini(tn);
err_ctrl:
	tbnet_ctrl_fini(tn);
	return ret;
}

static void fini_device(struct tbnet *tn)
{
	tbnet_steer_fini(tn);
	tbnet_queues_fini(tn);
	tbnet_ctrl_fini(tn);
}

static int tbnet_probe(struct virtio_device *vdev)
{
	unsigned int max_pairs = find_max_pairs(vdev);
	struct net_device *dev;
	struct tbnet *tn;
	int ret;

	if (max_pairs > TBNET_MAX_PAIRS)
		return dev_err_probe(&vdev->dev, -EINVAL, "%u queue pairs, at most %u can be\n",
				     max_pairs, TBNET_MAX_PAIRS);
	dev = alloc_etherdev_mq(sizeof(*tn), max_pairs);
	if (!dev)
		return -ENOMEM;
	SET_NETDEV_DEV(dev, &vdev->dev);
	tn = netdev_priv(dev);
	tn->dev = dev;
	tn->vdev = vdev;
	tn->max_pairs = max_pairs;
	tn->pairs = min(max_pairs, num_online_cpus());
	vdev->priv = tn;
	INIT_WORK(&tn->config_work, config_work);

	ret = init_device(tn);
	if (ret)
		goto err_free;
	tbnet_netdev_init(tn);
	ret = netif_set_real_num_queues(dev, tn->pairs, tn->pairs);
	if (ret)
		goto err_device;
	netif_carrier_off(dev);
	virtio_config_driver_enable(vdev);	/* virtio_net leaves it disabled */
	virtio_device_ready(vdev);
	ret = register_netdev(dev);
	if (ret)
		goto err_device;
	dev_info(&vdev->dev, "%s: %u queue pairs, rings of %u%s%s%s\n", dev->name, max_pairs,
		 tn->max_ring, tn->has_split ? ", header split" : "",
		 tn->has_rss ? ", RSS" : "", tn->has_rules ? ", receive rules" : "");
	return 0;

err_device:
	virtio_reset_device(vdev);
	cancel_work_sync(&tn->config_work);
	fini_device(tn);
err_free:
	free_netdev(dev);
	return ret;
}

/* The same for unbind, rmmod, hot-unplug and a device that is gone: then nothing waits for it. */
static void tbnet_remove(struct virtio_device *vdev)
{
	struct tbnet *tn = vdev->priv;

	unregister_netdev(tn->dev);
	if (is_present(tn))
		virtio_reset_device(vdev);
	cancel_work_sync(&tn->config_work);
	fini_device(tn);
	free_netdev(tn->dev);
}

static const struct virtio_device_id tbnet_ids[] = {
	{ VIRTIO_ID_NET, TBNET_VENDOR_ID },
	{ }
};
MODULE_DEVICE_TABLE(virtio, tbnet_ids);

static const unsigned int tbnet_features[] = {
	VIRTIO_NET_F_CSUM, VIRTIO_NET_F_GUEST_CSUM, VIRTIO_NET_F_CTRL_GUEST_OFFLOADS,
	VIRTIO_NET_F_MTU, VIRTIO_NET_F_MAC, VIRTIO_NET_F_GUEST_TSO4, VIRTIO_NET_F_GUEST_TSO6,
	VIRTIO_NET_F_GUEST_ECN, VIRTIO_NET_F_HOST_TSO4, VIRTIO_NET_F_HOST_TSO6,
	VIRTIO_NET_F_HOST_ECN, VIRTIO_NET_F_MRG_RXBUF, VIRTIO_NET_F_STATUS, VIRTIO_NET_F_CTRL_VQ,
	VIRTIO_NET_F_CTRL_RX, VIRTIO_NET_F_MQ, VIRTIO_NET_F_CTRL_MAC_ADDR, VIRTIO_NET_F_RSS,
	VIRTIO_NET_F_SPEED_DUPLEX, TBNET_F_HDR_SPLIT, TBNET_F_NTUPLE, TBNET_F_QUEUE_STATS,
};

static struct virtio_driver tbnet_driver = {
	.driver.name = "tbnet",
	.id_table = tbnet_ids,
	.feature_table = tbnet_features,
	.feature_table_size = ARRAY_SIZE(tbnet_features),
	.validate = tbnet_validate,
	.probe = tbnet_probe,
	.remove = tbnet_remove,
	.config_changed = tbnet_config_changed,
};
module_virtio_driver(tbnet_driver);

MODULE_DESCRIPTION("testbed virtual NIC with header split");
MODULE_AUTHOR("testbed");
MODULE_LICENSE("GPL");
