// SPDX-License-Identifier: MIT OR Apache-2.0
// Stands in for NVIDIA's libnvidia-ml.so.1 in tests. It reads its state at each call from a file beside itself, whose name
// is its own with ".state" appended:
//   devices 2              how many there are
//   0.total 100            a number about device 0: total, free, used, busy, traffic, heat; "0.lost 1" for one that is gone
//   process 0 77 50 30 20  process 77 is on device 0 and holds 50 bytes; 30 % computing, 20 % of its memory's time; -1 for
//                          the shares: the device does not tell processes apart
//   hang 1                 no call returns
// cc -shared -fPIC -o libnvidia-ml.so.1 nvml.c; -DOLD leaves out what old drivers lack.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { OK = 0, NOT_SUPPORTED = 3, NOT_FOUND = 6, TOO_SMALL = 7, NO_DRIVER = 9, LOST = 15 };
struct memory { unsigned version; unsigned long long total, reserved, free, used; };
struct share { unsigned compute, memory; };
struct process { unsigned pid; unsigned long long memory; unsigned instance, part; };
struct sample { unsigned pid; unsigned long long at; unsigned compute, memory, encoder, decoder; };

static FILE *state(void) {
    Dl_info self;
    char path[4096];
    if (!dladdr((void *)state, &self)) return NULL;
    snprintf(path, sizeof path, "%s.state", self.dli_fname);
    return fopen(path, "re");
}

static long long number(const char *key, long long otherwise) {
    char line[256], name[128];
    long long value, found = otherwise;
    FILE *file = state();
    while (file && fgets(line, sizeof line, file))
        if (sscanf(line, "%127s %lld", name, &value) == 2 && !strcmp(name, key)) found = value;
    if (file) fclose(file);
    return found;
}

static long long of(void *device, const char *key) {
    char name[128];
    snprintf(name, sizeof name, "%d.%s", (int)(intptr_t)device - 1, key);
    return number(name, -1);
}

static int alive(void *device) {
    while (number("hang", 0)) usleep(10000);
    return device && of(device, "lost") == 1 ? LOST : OK;
}

static int figure(void *device, const char *key, unsigned *value) {
    long long found = of(device, key);
    int rc = alive(device);
    *value = (unsigned)found;
    return rc ? rc : found < 0 ? NOT_SUPPORTED : OK;
}

int nvmlInit_v2(void) { return alive(NULL) ? LOST : number("devices", -1) < 0 ? NO_DRIVER : OK; }
int nvmlShutdown(void) { return OK; }
int nvmlDeviceGetCount_v2(unsigned *count) { *count = number("devices", 0); return alive(NULL); }

int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **device) {
    *device = (void *)(intptr_t)(index + 1);
    return alive(*device);
}

int nvmlDeviceGetUUID(void *device, char *text, unsigned size) {
    snprintf(text, size, "GPU-%d", (int)(intptr_t)device - 1);
    return alive(device);
}

int nvmlDeviceGetName(void *device, char *text, unsigned size) {
    snprintf(text, size, "Test %d", (int)(intptr_t)device - 1);
    return alive(device);
}

int nvmlDeviceGetTemperature(void *device, int sensor, unsigned *value) { (void)sensor; return figure(device, "heat", value); }

int nvmlDeviceGetUtilizationRates(void *device, struct share *share) {
    int rc = figure(device, "busy", &share->compute);
    return rc ? rc : figure(device, "traffic", &share->memory);
}

#ifndef OLD
// Calls `take` for each process on the device.
static unsigned each(void *device, void (*take)(void *, unsigned, long long *), void *list) {
    char line[256];
    unsigned count = 0;
    long long row[5];
    FILE *file = state();
    while (file && fgets(line, sizeof line, file))
        if (sscanf(line, "process %lld %lld %lld %lld %lld", row, row + 1, row + 2, row + 3, row + 4) == 5
            && row[0] + 1 == (intptr_t)device && (take || row[3] >= 0)) {
            if (take) take(list, count, row);
            count++;
        }
    if (file) fclose(file);
    return count;
}

int nvmlDeviceGetMemoryInfo_v2(void *device, struct memory *memory) {
    if (alive(device)) return LOST;
    if (of(device, "total") < 0) return NOT_SUPPORTED;
    memory->total = of(device, "total");
    memory->free = of(device, "free");
    memory->used = of(device, "used");
    return OK;
}

static void holder(void *list, unsigned at, long long *row) {
    struct process process = { row[1], row[2], ~0u, ~0u };
    ((struct process *)list)[at] = process;
}

int nvmlDeviceGetComputeRunningProcesses_v3(void *device, unsigned *count, struct process *list) {
    struct process all[64];
    unsigned there;
    if (alive(device)) return LOST;
    there = each(device, holder, all);
    if (there > *count) { *count = there; return TOO_SMALL; }
    *count = there;
    memcpy(list, all, there * sizeof *all);
    return OK;
}

static void worker(void *list, unsigned at, long long *row) {
    struct sample sample = { row[1], 1, row[3], row[4], 0, 0 };
    ((struct sample *)list)[at] = sample;
}

int nvmlDeviceGetProcessUtilization(void *device, struct sample *list, unsigned *count, unsigned long long since) {
    struct sample all[64];
    unsigned there = each(device, NULL, NULL);
    (void)since;
    if (alive(device)) return LOST;
    if (!there) return NOT_FOUND;
    if (there > *count) { *count = there; return TOO_SMALL; }
    *count = each(device, worker, all);
    memcpy(list, all, *count * sizeof *all);
    return OK;
}
#endif
