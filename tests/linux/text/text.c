// SPDX-License-Identifier: GPL-2.0
/*
 * Shows the kernel's own code to user space in three ways: read where it is executed (/dev/text-executed), read through a second kernel
 * mapping of the same frames (/dev/text-alias), and mapped into user space (mmap of either). Loaded in the Debian guest, whose
 * kernel has no such door.
 *
 *   insmod text.ko start=0x… end=0x…        _text and _etext of /proc/kallsyms, whole pages
 *
 * Loading it compares the first two byte by byte as well, and fails with EILSEQ if they differ.
 */
#include <linux/fs.h>
#include <linux/miscdevice.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/slab.h>
#include <linux/uaccess.h>
#include <linux/version.h>
#include <linux/vmalloc.h>

static unsigned long start, end;
module_param(start, ulong, 0444);
module_param(end, ulong, 0444);

static const char *alias;

static ssize_t copy_out(const char *from, char __user *to, size_t count, loff_t *at)
{
	/* By way of a buffer: the kernel refuses to copy its code to user space directly. */
	char *buffer;
	ssize_t done = -EFAULT;

	if (*at < 0 || *at >= end - start)
		return 0;
	count = min3(count, (size_t)(end - start - *at), (size_t)PAGE_SIZE);
	buffer = kmalloc(PAGE_SIZE, GFP_KERNEL);
	if (!buffer)
		return -ENOMEM;
	memcpy(buffer, from + *at, count);
	if (!copy_to_user(to, buffer, count)) {
		*at += count;
		done = count;
	}
	kfree(buffer);
	return done;
}

static ssize_t read_executed(struct file *file, char __user *to, size_t count, loff_t *at)
{
	return copy_out((const char *)start, to, count, at);
}

static ssize_t read_alias(struct file *file, char __user *to, size_t count, loff_t *at)
{
	return copy_out(alias, to, count, at);
}

static int map(struct file *file, struct vm_area_struct *area)
{
	if (area->vm_flags & VM_WRITE || area->vm_pgoff || area->vm_end - area->vm_start > end - start)
		return -EINVAL;
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 3, 0)
	vm_flags_clear(area, VM_MAYWRITE);
#else
	area->vm_flags &= ~VM_MAYWRITE;
#endif
	return remap_pfn_range(area, area->vm_start, __pa(start) >> PAGE_SHIFT, area->vm_end - area->vm_start, area->vm_page_prot);
}

static const struct file_operations executed_operations = { .owner = THIS_MODULE, .read = read_executed, .mmap = map };
static const struct file_operations alias_operations = { .owner = THIS_MODULE, .read = read_alias, .mmap = map };
static struct miscdevice executed = { .minor = MISC_DYNAMIC_MINOR, .name = "text-executed", .fops = &executed_operations };
static struct miscdevice aliased = { .minor = MISC_DYNAMIC_MINOR, .name = "text-alias", .fops = &alias_operations };

/* Page by page through buffers: where reads of executed code are emulated, one string instruction is cheaper than a thousand loads. */
static int compare(void)
{
	u8 *here = kmalloc(2 * PAGE_SIZE, GFP_KERNEL), *there = here + PAGE_SIZE;
	unsigned long offset, i, differing = 0;

	if (!here)
		return -ENOMEM;
	for (offset = 0; offset < end - start; offset += PAGE_SIZE) {
		memcpy(here, (const void *)(start + offset), PAGE_SIZE);
		memcpy(there, alias + offset, PAGE_SIZE);
		for (i = 0; i < PAGE_SIZE; i++)
			if (here[i] != there[i] && differing++ < 10)
				pr_err("text: %lx: %02x where it is executed, %02x through the alias\n", start + offset + i, here[i], there[i]);
	}
	kfree(here);
	pr_info("text: %lu bytes at %lx, physical %lx, %lu of them differ through the alias\n", end - start, start, __pa(start), differing);
	return differing ? -EILSEQ : 0;
}

static int __init text_init(void)
{
	unsigned long count = (end - start) >> PAGE_SHIFT, i;
	struct page **pages;
	int status;

	if (start < PAGE_OFFSET || end <= start || offset_in_page(start) || offset_in_page(end))
		return -EINVAL;
	/* 64-bit kernels have their code in a mapping of its own, above all others. */
	if (!IS_ENABLED(CONFIG_X86_64) && end > (unsigned long)high_memory)
		return -EINVAL;
	pages = kvmalloc_array(count, sizeof(*pages), GFP_KERNEL);
	if (!pages)
		return -ENOMEM;
	for (i = 0; i < count; i++)
		pages[i] = pfn_to_page(PHYS_PFN(__pa(start + i * PAGE_SIZE)));
	alias = vmap(pages, count, VM_MAP, PAGE_KERNEL_RO);
	kvfree(pages);
	if (!alias)
		return -ENOMEM;
	status = compare();
	if (!status)
		status = misc_register(&executed);
	if (!status) {
		status = misc_register(&aliased);
		if (status)
			misc_deregister(&executed);
	}
	if (status)
		vunmap(alias);
	return status;
}

static void __exit text_exit(void)
{
	misc_deregister(&aliased);
	misc_deregister(&executed);
	vunmap(alias);
}

module_init(text_init);
module_exit(text_exit);
MODULE_DESCRIPTION("The kernel's code, read in three ways");
MODULE_LICENSE("GPL");
