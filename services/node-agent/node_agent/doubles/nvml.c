/* A double of libnvidia-ml.so.1: devices, energy, errors and events as a text file says, read again at each call.

   The file is named by NVML_DOUBLE; each of its lines is `key=value`:

     count=8             how many GPUs there are (1)
     gpu1.lost=1         every call about GPU 1 answers "GPU is lost"
     gpu1.hang=30        every call about GPU 1 takes 30 seconds: a driver that is stuck
     gpu1.energy=7000    its energy counter, in millijoules (1000)
     gpu1.mig=1          it is in MIG mode (0: it could be; else it knows no such mode)
     gpu1.recovery=2     what its field "GPU recovery action" says (0)
     gpu1.ecc_corrected=4, gpu1.ecc_uncorrected=1, gpu1.ecc_corrected_dram=4   errors, in all and by place (0)
     gpu1.storm=500      so many more corrected errors of its memory each second, from the first call on
     gpu1.rows_corrected=1, .rows_uncorrected, .rows_pending, .rows_failed     what was remapped, and could not be (0)
     gpu1.pcie_replay=7  how often its bus sent again (0)
     gpu1.links=18       how many NVLink lanes it has (0: it knows none)
     gpu1.nvlink3.crc_flit=9, .replay, .recovery, .crc_data                    errors of one lane (0)
     gpu1.reasons=64     why its clock is held down, as the driver's bits (0)
     gpu1.held_thermal_us=5000, .held_power_us, .held_board_limit_us, .held_reliability_us   for how long it was (0)
     gpu1.power=90000, gpu1.temperature=40   what it draws, in milliwatts, and how warm it is
     event.1=3:79        the first event: GPU 3 tells XID 79; event.2 is the next, and so on

   A driver that is older than a function lacks it: build with -DnvmlDeviceGetRemappedRows=older (any name) and it is not there.

   It is compiled against NVIDIA's own header, so that a layout that drifts is an error of the compiler. */

#define NVML_NO_UNVERSIONED_FUNC_DEFS
#include <nvml.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <time.h>
#include <unistd.h>

#define GPUS_MAX 64
#define LINE_MAX_BYTES 256
#define POLL_US 2000

static char handles[GPUS_MAX];
static unsigned long long delivered;

/* Return a key's value, or `otherwise` where the scenario does not say. */
static long long said(const char *key, long long otherwise) {
    const char *path = getenv("NVML_DOUBLE");
    FILE *file = path ? fopen(path, "r") : NULL;
    char line[LINE_MAX_BYTES];
    long long found = otherwise;
    size_t length = strlen(key);
    while (file && fgets(line, sizeof line, file))
        if (!strncmp(line, key, length) && line[length] == '=') found = atoll(line + length + 1);
    if (file) fclose(file);
    return found;
}

static long long about(unsigned gpu, const char *what, long long otherwise) {
    char key[LINE_MAX_BYTES];
    snprintf(key, sizeof key, "gpu%u.%s", gpu, what);
    return said(key, otherwise);
}

static unsigned long long now_us(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (unsigned long long)now.tv_sec * 1000000ULL + (unsigned long long)now.tv_nsec / 1000ULL;
}

static unsigned gpu_of(nvmlDevice_t device) { return (unsigned)((char *)device - handles); }

/* Return whether a GPU answers; a call to one that hangs returns late. */
static nvmlReturn_t answers(nvmlDevice_t device) {
    unsigned gpu = gpu_of(device);
    long long hang = about(gpu, "hang", 0);
    for (long long waited = 0; waited < hang * 10 && about(gpu, "hang", 0); waited++) usleep(100000);
    return about(gpu, "lost", 0) ? NVML_ERROR_GPU_IS_LOST : NVML_SUCCESS;
}

nvmlReturn_t nvmlInitWithFlags(unsigned int flags) {
    (void)flags;
    return said("absent", 0) ? NVML_ERROR_DRIVER_NOT_LOADED : NVML_SUCCESS;
}
nvmlReturn_t nvmlInit_v2(void) { return nvmlInitWithFlags(0); }
nvmlReturn_t nvmlShutdown(void) { return NVML_SUCCESS; }

const char *nvmlErrorString(nvmlReturn_t result) {
    switch (result) {
    case NVML_SUCCESS: return "Success";
    case NVML_ERROR_DRIVER_NOT_LOADED: return "Driver Not Loaded";
    case NVML_ERROR_GPU_IS_LOST: return "GPU is lost";
    case NVML_ERROR_TIMEOUT: return "Timeout";
    default: return "Unknown Error";
    }
}

nvmlReturn_t nvmlDeviceGetCount_v2(unsigned int *count) {
    *count = (unsigned)said("count", 1);
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetHandleByIndex_v2(unsigned int index, nvmlDevice_t *device) {
    if (index >= GPUS_MAX || index >= (unsigned)said("count", 1)) return NVML_ERROR_INVALID_ARGUMENT;
    *device = (nvmlDevice_t)(handles + index);
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetUUID(nvmlDevice_t device, char *uuid, unsigned int length) {
    nvmlReturn_t result = answers(device);
    snprintf(uuid, length, "GPU-%08u-0000-4000-8000-000000000000", gpu_of(device));
    return result;
}

nvmlReturn_t nvmlDeviceGetName(nvmlDevice_t device, char *name, unsigned int length) {
    snprintf(name, length, "NVIDIA H200");
    return answers(device);
}

nvmlReturn_t nvmlDeviceGetMemoryInfo(nvmlDevice_t device, nvmlMemory_t *memory) {
    memory->total = 143771ULL << 20;
    memory->used = 0;
    memory->free = memory->total;
    return answers(device);
}

nvmlReturn_t nvmlDeviceGetPciInfo_v3(nvmlDevice_t device, nvmlPciInfo_t *pci) {
    unsigned gpu = gpu_of(device);
    memset(pci, 0, sizeof *pci);
    pci->bus = 0x10 + gpu;
    snprintf(pci->busId, sizeof pci->busId, "00000000:%02X:00.0", pci->bus);
    return answers(device);
}

nvmlReturn_t nvmlDeviceGetTotalEnergyConsumption(nvmlDevice_t device, unsigned long long *energy) {
    nvmlReturn_t result = answers(device);
    *energy = (unsigned long long)about(gpu_of(device), "energy", 1000);
    return result;
}

nvmlReturn_t nvmlDeviceGetEnforcedPowerLimit(nvmlDevice_t device, unsigned int *limit) {
    *limit = 700000;
    return answers(device);
}

nvmlReturn_t nvmlDeviceGetMigMode(nvmlDevice_t device, unsigned int *current, unsigned int *pending) {
    long long mode = about(gpu_of(device), "mig", -1);
    *current = *pending = mode > 0 ? NVML_DEVICE_MIG_ENABLE : NVML_DEVICE_MIG_DISABLE;
    return mode < 0 ? NVML_ERROR_NOT_SUPPORTED : answers(device);
}

nvmlReturn_t nvmlDeviceGetFieldValues(nvmlDevice_t device, int count, nvmlFieldValue_t *values) {
    nvmlReturn_t result = answers(device);
    for (int at = 0; at < count; at++) {
        values[at].nvmlReturn = NVML_ERROR_NOT_SUPPORTED;
        if (values[at].fieldId != NVML_FI_DEV_GET_GPU_RECOVERY_ACTION) continue;
        values[at].nvmlReturn = NVML_SUCCESS;
        values[at].valueType = NVML_VALUE_TYPE_UNSIGNED_INT;
        values[at].value.uiVal = (unsigned)about(gpu_of(device), "recovery", 0);
    }
    return result;
}

nvmlReturn_t nvmlSystemGetDriverVersion(char *version, unsigned int length) {
    snprintf(version, length, "0.0 (double)");
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetHandleByUUID(const char *uuid, nvmlDevice_t *device) {
    unsigned gpu;
    if (sscanf(uuid, "GPU-%8u-0000-4000-8000-000000000000", &gpu) != 1) return NVML_ERROR_NOT_FOUND;
    return nvmlDeviceGetHandleByIndex_v2(gpu, device);
}

nvmlReturn_t nvmlDeviceGetPowerUsage(nvmlDevice_t device, unsigned int *power) {
    *power = (unsigned)about(gpu_of(device), "power", 90000);
    return answers(device);
}

nvmlReturn_t nvmlDeviceGetTemperature(nvmlDevice_t device, nvmlTemperatureSensors_t sensor, unsigned int *celsius) {
    *celsius = (unsigned)about(gpu_of(device), "temperature", 40);
    return sensor == NVML_TEMPERATURE_GPU ? answers(device) : NVML_ERROR_NOT_SUPPORTED;
}

nvmlReturn_t nvmlDeviceGetCurrentClocksEventReasons(nvmlDevice_t device, unsigned long long *reasons) {
    *reasons = (unsigned long long)about(gpu_of(device), "reasons", 0);
    return answers(device);
}

/* Return how many corrected errors a storm has made since the first call. */
static unsigned long long stormed(unsigned gpu) {
    static unsigned long long began;
    if (!began) began = now_us();
    return (now_us() - began) * (unsigned long long)about(gpu, "storm", 0) / 1000000ULL;
}

nvmlReturn_t nvmlDeviceGetTotalEccErrors(nvmlDevice_t device, nvmlMemoryErrorType_t type, nvmlEccCounterType_t counter,
                                         unsigned long long *errors) {
    int corrected = type == NVML_MEMORY_ERROR_TYPE_CORRECTED;
    (void)counter;
    *errors = (unsigned long long)about(gpu_of(device), corrected ? "ecc_corrected" : "ecc_uncorrected", 0);
    if (corrected) *errors += stormed(gpu_of(device));
    return answers(device);
}

nvmlReturn_t nvmlDeviceGetMemoryErrorCounter(nvmlDevice_t device, nvmlMemoryErrorType_t type,
                                             nvmlEccCounterType_t counter, nvmlMemoryLocation_t location,
                                             unsigned long long *errors) {
    static const char *places[] = {"l1", "l2", "dram", "registers", "texture", "shared", "cbu", "sram"};
    char what[LINE_MAX_BYTES];
    int corrected = type == NVML_MEMORY_ERROR_TYPE_CORRECTED;
    (void)counter;
    if ((unsigned)location >= sizeof places / sizeof *places) return NVML_ERROR_NOT_SUPPORTED;
    snprintf(what, sizeof what, "ecc_%s_%s", corrected ? "corrected" : "uncorrected", places[location]);
    *errors = (unsigned long long)about(gpu_of(device), what, 0);
    if (corrected && location == NVML_MEMORY_LOCATION_DRAM) *errors += stormed(gpu_of(device));
    return answers(device);
}

nvmlReturn_t nvmlDeviceGetRemappedRows(nvmlDevice_t device, unsigned int *corrected, unsigned int *uncorrected,
                                       unsigned int *pending, unsigned int *failed) {
    unsigned gpu = gpu_of(device);
    *corrected = (unsigned)about(gpu, "rows_corrected", 0);
    *uncorrected = (unsigned)about(gpu, "rows_uncorrected", 0);
    *pending = (unsigned)about(gpu, "rows_pending", 0);
    *failed = (unsigned)about(gpu, "rows_failed", 0);
    return answers(device);
}

nvmlReturn_t nvmlDeviceGetPcieReplayCounter(nvmlDevice_t device, unsigned int *replays) {
    *replays = (unsigned)about(gpu_of(device), "pcie_replay", 0);
    return answers(device);
}

nvmlReturn_t nvmlDeviceGetNvLinkErrorCounter(nvmlDevice_t device, unsigned int link, nvmlNvLinkErrorCounter_t counter,
                                             unsigned long long *errors) {
    static const char *names[] = {"replay", "recovery", "crc_flit", "crc_data"};
    char what[LINE_MAX_BYTES];
    if (link >= about(gpu_of(device), "links", 0)) return NVML_ERROR_NOT_SUPPORTED;
    if ((unsigned)counter >= sizeof names / sizeof *names) return NVML_ERROR_INVALID_ARGUMENT;
    snprintf(what, sizeof what, "nvlink%u.%s", link, names[counter]);
    *errors = (unsigned long long)about(gpu_of(device), what, 0);
    return answers(device);
}

nvmlReturn_t nvmlDeviceGetViolationStatus(nvmlDevice_t device, nvmlPerfPolicyType_t policy, nvmlViolationTime_t *held) {
    const char *what = policy == NVML_PERF_POLICY_POWER         ? "held_power_us"
                       : policy == NVML_PERF_POLICY_THERMAL     ? "held_thermal_us"
                       : policy == NVML_PERF_POLICY_BOARD_LIMIT ? "held_board_limit_us"
                       : policy == NVML_PERF_POLICY_RELIABILITY ? "held_reliability_us"
                                                                : NULL;
    if (!what) return NVML_ERROR_NOT_SUPPORTED;
    held->referenceTime = now_us();
    held->violationTime = (unsigned long long)about(gpu_of(device), what, 0) * 1000ULL;
    return answers(device);
}

nvmlReturn_t nvmlEventSetCreate(nvmlEventSet_t *set) {
    *set = (nvmlEventSet_t)handles;
    delivered = 0;
    return NVML_SUCCESS;
}
nvmlReturn_t nvmlEventSetFree(nvmlEventSet_t set) {
    (void)set;
    return NVML_SUCCESS;
}
nvmlReturn_t nvmlDeviceRegisterEvents(nvmlDevice_t device, unsigned long long types, nvmlEventSet_t set) {
    (void)types, (void)set;
    return answers(device);
}

/* Wait until the scenario's folder changes, or so long: as a driver's wait costs nothing while nothing happens. */
static void wait_for_change(unsigned long long within_us) {
    static int changes = -1;
    const char *path = getenv("NVML_DOUBLE");
    const char *slash = path ? strrchr(path, '/') : NULL;
    char folder[LINE_MAX_BYTES], drained[LINE_MAX_BYTES * 16];
    if (changes < 0 && slash) {
        snprintf(folder, sizeof folder, "%.*s", (int)(slash - path), path);
        changes = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
        if (changes >= 0) inotify_add_watch(changes, folder, IN_MOVED_TO | IN_CLOSE_WRITE);
        return; /* what changed before is looked at once more */
    }
    struct pollfd waiting = {.fd = changes, .events = POLLIN};
    if (changes < 0)
        usleep(POLL_US);
    else if (poll(&waiting, 1, (int)(within_us / 1000)) > 0)
        while (read(changes, drained, sizeof drained) > 0) continue;
}

/* Return the next event that was not delivered yet, as XID, once the scenario has it. */
nvmlReturn_t nvmlEventSetWait_v2(nvmlEventSet_t set, nvmlEventData_t *data, unsigned int within_ms) {
    (void)set;
    unsigned long long now = now_us(), until = now + within_ms * 1000ULL;
    for (; now <= until; now = now_us()) {
        char key[LINE_MAX_BYTES], *rest;
        const char *path = getenv("NVML_DOUBLE");
        FILE *file = path ? fopen(path, "r") : NULL;
        char line[LINE_MAX_BYTES];
        int found = 0;
        snprintf(key, sizeof key, "event.%llu=", delivered + 1);
        while (file && fgets(line, sizeof line, file))
            if (!strncmp(line, key, strlen(key))) {
                unsigned gpu = (unsigned)strtoul(line + strlen(key), &rest, 10);
                memset(data, 0, sizeof *data);
                data->device = (nvmlDevice_t)(handles + gpu);
                data->eventType = nvmlEventTypeXidCriticalError;
                data->eventData = strtoull(rest + 1, NULL, 10);
                found = 1;
            }
        if (file) fclose(file);
        if (found) {
            delivered++;
            return NVML_SUCCESS;
        }
        wait_for_change(until - now);
    }
    return NVML_ERROR_TIMEOUT;
}
