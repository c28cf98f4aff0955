/* SPDX-License-Identifier: GPL-2.0 */
/* DRM synchronisation objects. Functions that return int give 0 or -errno; the others end the
 * check. */
#ifndef SYNCOBJ_H
#define SYNCOBJ_H

#include "gpu.h"

/* flags: DRM_SYNCOBJ_CREATE_SIGNALED. The object lives until the GPU's file is closed. */
__u32 syncobj_create(struct gpu *gpu, __u32 flags);
int syncobj_destroy(struct gpu *gpu, __u32 handle);
int syncobj_reset(struct gpu *gpu, __u32 handle);
int syncobj_signal(struct gpu *gpu, __u32 handle, __u64 point);

/* Point 0 is the current fence of a binary object. flags: DRM_SYNCOBJ_WAIT_FLAGS_*. */
int syncobj_wait(struct gpu *gpu, __u32 handle, __u64 point, __u32 flags, __u64 deadline);
/* flags: DRM_SYNCOBJ_QUERY_FLAGS_LAST_SUBMITTED. */
__u64 syncobj_query(struct gpu *gpu, __u32 handle, __u32 flags);
int syncobj_eventfd(struct gpu *gpu, __u32 handle, __u64 point, __u32 flags, int eventfd);
int syncobj_transfer(struct gpu *gpu, __u32 to, __u64 to_point, __u32 from, __u64 from_point);

/* The fence in it as a sync_file: descriptor or -errno. */
int syncobj_export_file(struct gpu *gpu, __u32 handle);
/* The fence of a sync_file becomes the object's fence. */
int syncobj_import_file(struct gpu *gpu, __u32 handle, int sync_file);
/* The object itself as a descriptor, and the handle for such a descriptor. */
int syncobj_export_fd(struct gpu *gpu, __u32 handle);
__u32 syncobj_import_fd(struct gpu *gpu, int fd);

#endif
