/*
 * Classifies handwritten digits with an int8 network: the real input of Tenure's main job.
 *
 * An ordinary WASI preview 1 command without a C library. The job's interface is two preopened directories, /in as
 * descriptor 3 (read only) and /out as descriptor 4. It reads /in/weights.bin and /in/digits.bin (README.md gives both
 * formats byte by byte) and writes /out/predictions.csv.
 *
 *     digits [--rounds N] [--pace-ms M]
 *
 * --rounds repeats the whole classification N times and --pace-ms sleeps M milliseconds after each progress line, so
 * that a demonstration can last; the output is the same whatever they are.
 *
 * Exit codes: 0 done, 1 wrong arguments, 2 an input is missing, malformed, truncated or oversized, 3 the host refused
 * an operation (for example a full disk).
 *
 * Integers only, so that every engine on every machine gives the same bits. All limits below are chosen so that no
 * accumulator can overflow for any weights the reader accepts; see check_weights.
 */

#include <stdint.h>

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the files are little-endian, as WebAssembly is");

/* ---- The functions of WASI preview 1 that are used ---- */

#define WASI(name) __attribute__((import_module("wasi_snapshot_preview1"), import_name(#name)))

typedef struct {
    void *at;
    uint32_t length;
} Slice;

/* A poll_oneoff subscription to a relative clock, laid out as the `subscription` record of witx. */
typedef struct {
    uint64_t user_data;
    uint64_t tag; /* u8 and padding: 0 is clock */
    uint32_t clock;
    uint32_t padding;
    uint64_t timeout_ns;
    uint64_t precision_ns;
    uint64_t flags; /* u16 and padding: 0 is relative */
} ClockSubscription;
_Static_assert(sizeof(ClockSubscription) == 48, "witx gives subscription 48 bytes");

typedef struct {
    uint64_t user_data;
    uint16_t error;
    uint8_t rest[22];
} Event;
_Static_assert(sizeof(Event) == 32, "witx gives event 32 bytes");

WASI(args_sizes_get) uint32_t wasi_args_sizes_get(uint32_t *count, uint32_t *bytes);
WASI(args_get) uint32_t wasi_args_get(char **arguments, char *bytes);
WASI(path_open)
uint32_t wasi_path_open(uint32_t directory, uint32_t lookup, const char *path, uint32_t path_length,
                        uint32_t open_flags, uint64_t rights, uint64_t inherited_rights, uint32_t fd_flags, uint32_t *fd);
WASI(fd_read) uint32_t wasi_fd_read(uint32_t fd, const Slice *slices, uint32_t count, uint32_t *done);
WASI(fd_write) uint32_t wasi_fd_write(uint32_t fd, const Slice *slices, uint32_t count, uint32_t *done);
WASI(fd_close) uint32_t wasi_fd_close(uint32_t fd);
WASI(poll_oneoff) uint32_t wasi_poll_oneoff(const ClockSubscription *in, Event *out, uint32_t count, uint32_t *events);
WASI(proc_exit) _Noreturn void wasi_proc_exit(uint32_t code);

enum { STDOUT = 1, STDERR = 2, IN = 3, OUT = 4 };
enum { OPEN_CREATE = 1, OPEN_TRUNCATE = 8 };
enum { RIGHT_READ = 1 << 1, RIGHT_WRITE = 1 << 6 };
enum { CLOCK_MONOTONIC = 1 };
enum { EXIT_USAGE = 1, EXIT_INPUT = 2, EXIT_HOST = 3 };

/* ---- Limits and formats ---- */

enum {
    SIDE = 8,
    PIXELS = SIDE * SIDE,
    PIXEL_MAX = 16,
    CLASSES = 10,
    HIDDEN_LIMIT = 256,
    ROWS_LIMIT = 16384, /* 1 MiB of pixels */
    SHIFT_LIMIT = 32,
    BIAS_LIMIT = 1 << 24,
    ACTIVATION_MAX = 127,
    PROGRESS_ROWS = 256,
    ROUNDS_LIMIT = 1000000,
    PACE_LIMIT_MS = 60000,
    ARGUMENTS_LIMIT = 16,
    ARGUMENT_BYTES_LIMIT = 1024,
};

typedef struct {
    char magic[8];
    uint32_t inputs, hidden, outputs, shift;
} WeightsHeader;

typedef struct {
    char magic[8];
    uint32_t rows, width, height, pixel_max;
} DigitsHeader;

/* One byte more than the largest valid file, so that an oversized one is seen without reading all of it. */
enum {
    WEIGHTS_BYTES_LIMIT = sizeof(WeightsHeader) + HIDDEN_LIMIT * (4 + 4 + PIXELS + CLASSES) + CLASSES * 4,
    DIGITS_BYTES_LIMIT = sizeof(DigitsHeader) + ROWS_LIMIT * PIXELS,
};
static _Alignas(8) uint8_t weights_file[WEIGHTS_BYTES_LIMIT + 1];
static _Alignas(8) uint8_t digits_file[DIGITS_BYTES_LIMIT + 1];

/* Views into weights_file. Each array is aligned to its element: the header is 24 bytes, 4-byte words follow. */
static struct {
    uint32_t hidden, shift;
    const int32_t *bias1, *multiplier1, *bias2;
    const int8_t *w1; /* hidden rows of PIXELS */
    const int8_t *w2; /* CLASSES rows of hidden */
} network;

static uint32_t rows;
static const uint8_t *pixels; /* rows of PIXELS, in digits_file */
static uint8_t predictions[ROWS_LIMIT];

/* ---- Text ---- */

/*
 * One line of text. What does not fit is dropped: a message is never worth a write out of bounds. Its users set length
 * alone, because an initialiser would also clear the bytes, by a call of memset.
 */
typedef struct {
    char bytes[256];
    uint32_t length;
} Line;

static void put(Line *line, const char *text) {
    while (*text != 0 && line->length < sizeof line->bytes) line->bytes[line->length++] = *text++;
}

static void put_number(Line *line, uint32_t value) {
    char digits[11];
    uint32_t at = sizeof digits - 1;
    digits[at] = 0;
    do digits[--at] = (char)('0' + value % 10);
    while ((value /= 10) != 0);
    put(line, digits + at);
}

/* Writes all bytes; a write may take fewer than asked. Returns the WASI error, 0 for none. */
static uint32_t write_all(uint32_t fd, void *bytes, uint32_t length) {
    Slice rest = {bytes, length};
    while (rest.length != 0) {
        uint32_t done = 0;
        uint32_t error = wasi_fd_write(fd, &rest, 1, &done);
        if (error != 0) return error;
        if (done == 0 || done > rest.length) return 29; /* EIO: it would loop for ever, or leave the buffer */
        rest.at = (char *)rest.at + done;
        rest.length -= done;
    }
    return 0;
}

/* Ends the process with a message on stderr. Where stderr fails too, the exit code remains. */
static _Noreturn void stop(uint32_t code, Line *line) {
    put(line, "\n");
    write_all(STDERR, line->bytes, line->length);
    wasi_proc_exit(code);
}

/* "digits: <what><value><rest>" */
static _Noreturn void fail(uint32_t code, const char *what, uint32_t value, const char *rest) {
    Line line;
    line.length = 0;
    put(&line, "digits: ");
    put(&line, what);
    put_number(&line, value);
    put(&line, rest);
    stop(code, &line);
}

/* "digits: <field><value>, <relation><limit>", for an input that breaks its format */
static _Noreturn void malformed(const char *field, uint32_t value, const char *relation, uint32_t limit) {
    Line line;
    line.length = 0;
    put(&line, "digits: ");
    put(&line, field);
    put_number(&line, value);
    put(&line, ", ");
    put(&line, relation);
    put_number(&line, limit);
    stop(EXIT_INPUT, &line);
}

/* Refuses a file that does not begin with `magic`, which its terminating zero makes 8 bytes. */
static void check_magic(const char *file, const char *found, const char *magic) {
    uint32_t i = 0;
    while (i < 8 && found[i] == magic[i]) i++;
    if (i == 8) return;
    Line line;
    line.length = 0;
    put(&line, "digits: ");
    put(&line, file);
    put(&line, ": wrong magic, must be ");
    put(&line, magic);
    stop(EXIT_INPUT, &line);
}

/* ---- Input ---- */

/* Reads a file of /in into buffer, at most limit + 1 bytes, and returns how many. `failed` opens the error message. */
static uint32_t read_file(const char *name, uint32_t name_length, uint8_t *buffer, uint32_t limit, const char *failed) {
    uint32_t fd;
    uint32_t error = wasi_path_open(IN, 0, name, name_length, 0, RIGHT_READ, 0, 0, &fd);
    if (error != 0) fail(EXIT_INPUT, failed, error, " on opening it");
    uint32_t length = 0;
    while (length <= limit) {
        uint32_t done = 0;
        Slice rest = {buffer + length, limit + 1 - length};
        error = wasi_fd_read(fd, &rest, 1, &done);
        if (error != 0) fail(EXIT_INPUT, failed, error, " on reading it");
        if (done == 0) break;
        if (done > rest.length) fail(EXIT_HOST, "the host says it read more than was asked: ", done, " bytes");
        length += done;
    }
    wasi_fd_close(fd);
    return length;
}

static void check_length(const char *field, uint32_t length, uint32_t expected) {
    if (length < expected) malformed(field, length, "truncated: the header asks for ", expected);
    if (length > expected) malformed(field, length, "oversized: the header asks for ", expected);
}

/*
 * Checks weights.bin and points `network` into it. The limits exclude overflow:
 *   first accumulator   64 * 16 * 128 + 2^24              < 2^25, in int32
 *   requantisation      2^25 * 2^31 + 2^31                < 2^57, in int64
 *   second accumulator  256 * 127 * 128 + 2^24            < 2^25, in int32
 */
static void check_weights(uint32_t length) {
    const WeightsHeader *header = (const WeightsHeader *)weights_file;
    if (length < sizeof *header)
        malformed("weights.bin: length is ", length, "truncated: the header alone is ", sizeof *header);
    check_magic("weights.bin", header->magic, "TENMLP1");
    if (header->inputs != PIXELS) malformed("weights.bin: inputs is ", header->inputs, "must be ", PIXELS);
    if (header->outputs != CLASSES) malformed("weights.bin: outputs is ", header->outputs, "must be ", CLASSES);
    if (header->hidden == 0) malformed("weights.bin: hidden is ", 0, "must be at least ", 1);
    if (header->hidden > HIDDEN_LIMIT)
        malformed("weights.bin: hidden is ", header->hidden, "must be at most ", HIDDEN_LIMIT);
    if (header->shift == 0) malformed("weights.bin: shift is ", 0, "must be at least ", 1);
    if (header->shift > SHIFT_LIMIT)
        malformed("weights.bin: shift is ", header->shift, "must be at most ", SHIFT_LIMIT);

    uint32_t hidden = header->hidden;
    check_length("weights.bin: length is ", length, sizeof *header + hidden * (4 + 4 + PIXELS + CLASSES) + CLASSES * 4);
    network.hidden = hidden;
    network.shift = header->shift;
    network.bias1 = (const int32_t *)(header + 1);
    network.multiplier1 = network.bias1 + hidden;
    network.bias2 = network.multiplier1 + hidden;
    network.w1 = (const int8_t *)(network.bias2 + CLASSES);
    network.w2 = network.w1 + hidden * PIXELS;

    for (uint32_t i = 0; i < hidden; i++) {
        if (network.bias1[i] < -BIAS_LIMIT || network.bias1[i] > BIAS_LIMIT)
            malformed("weights.bin: a bias out of range in layer 1, unit ", i, "the limit is +-", BIAS_LIMIT);
        if (network.multiplier1[i] < 0)
            malformed("weights.bin: a negative multiplier, unit ", i, "must be at least ", 0);
    }
    for (uint32_t i = 0; i < CLASSES; i++)
        if (network.bias2[i] < -BIAS_LIMIT || network.bias2[i] > BIAS_LIMIT)
            malformed("weights.bin: a bias out of range in layer 2, unit ", i, "the limit is +-", BIAS_LIMIT);
}

/* Checks digits.bin and points `pixels` into it. */
static void check_digits(uint32_t length) {
    const DigitsHeader *header = (const DigitsHeader *)digits_file;
    if (length < sizeof *header)
        malformed("digits.bin: length is ", length, "truncated: the header alone is ", sizeof *header);
    check_magic("digits.bin", header->magic, "TENDIG1");
    if (header->width != SIDE) malformed("digits.bin: width is ", header->width, "must be ", SIDE);
    if (header->height != SIDE) malformed("digits.bin: height is ", header->height, "must be ", SIDE);
    if (header->pixel_max != PIXEL_MAX)
        malformed("digits.bin: pixel_max is ", header->pixel_max, "must be ", PIXEL_MAX);
    if (header->rows == 0) malformed("digits.bin: rows is ", 0, "must be at least ", 1);
    if (header->rows > ROWS_LIMIT) malformed("digits.bin: rows is ", header->rows, "must be at most ", ROWS_LIMIT);
    check_length("digits.bin: length is ", length, sizeof *header + header->rows * PIXELS);
    rows = header->rows;
    pixels = (const uint8_t *)(header + 1);
    for (uint32_t i = 0; i < rows * PIXELS; i++)
        if (pixels[i] > PIXEL_MAX)
            malformed("digits.bin: a pixel out of range in row ", i / PIXELS, "must be at most ", PIXEL_MAX);
}

/* ---- Arguments ---- */

static struct {
    uint32_t rounds, pace_ms;
} options = {1, 0};

static uint32_t parse_number(const char *text, const char *failed, uint32_t least, uint32_t limit) {
    uint32_t value = 0;
    if (*text == 0) fail(EXIT_USAGE, failed, limit, "");
    for (; *text != 0; text++) {
        if (*text < '0' || *text > '9') fail(EXIT_USAGE, failed, limit, "");
        value = value * 10 + (uint32_t)(*text - '0'); /* limit * 10 + 9 fits: the value is checked at each digit */
        if (value > limit) fail(EXIT_USAGE, failed, limit, "");
    }
    if (value < least) fail(EXIT_USAGE, failed, limit, "");
    return value;
}

static int is(const char *argument, const char *name) {
    while (*name != 0 && *argument == *name) argument++, name++;
    return *argument == *name;
}

static void read_arguments(void) {
    static char *arguments[ARGUMENTS_LIMIT];
    static char bytes[ARGUMENT_BYTES_LIMIT];
    uint32_t count, length;
    uint32_t error = wasi_args_sizes_get(&count, &length);
    if (error != 0) fail(EXIT_HOST, "WASI error ", error, " on args_sizes_get");
    if (count > ARGUMENTS_LIMIT) fail(EXIT_USAGE, "too many arguments, the limit is ", ARGUMENTS_LIMIT - 1, "");
    if (length > ARGUMENT_BYTES_LIMIT)
        fail(EXIT_USAGE, "arguments are too long, the limit in bytes is ", ARGUMENT_BYTES_LIMIT, "");
    error = wasi_args_get(arguments, bytes);
    if (error != 0) fail(EXIT_HOST, "WASI error ", error, " on args_get");

    for (uint32_t i = 1; i < count; i += 2) { /* argument 0 is the program's name */
        int is_rounds = is(arguments[i], "--rounds");
        if (!is_rounds && !is(arguments[i], "--pace-ms"))
            fail(EXIT_USAGE, "argument ", i, " is unknown; usage: digits [--rounds N] [--pace-ms M]");
        if (i + 1 == count) fail(EXIT_USAGE, "argument ", i, " needs a number after it");
        if (is_rounds)
            options.rounds = parse_number(arguments[i + 1], "--rounds must be a number from 1 to ", 1, ROUNDS_LIMIT);
        else
            options.pace_ms = parse_number(arguments[i + 1], "--pace-ms must be a number from 0 to ", 0, PACE_LIMIT_MS);
    }
}

/* ---- The network ---- */

/* The digit with the greatest score for one image; the smallest of equals. */
static uint8_t classify(const uint8_t *image) {
    uint8_t activation[HIDDEN_LIMIT];
    const int8_t *weight = network.w1;
    for (uint32_t unit = 0; unit < network.hidden; unit++, weight += PIXELS) {
        int32_t sum = network.bias1[unit];
        for (uint32_t i = 0; i < PIXELS; i++) sum += weight[i] * image[i];
        /* ReLU before the shift: shifting a negative number right is not defined by C, and would round differently. */
        int64_t positive = sum > 0 ? sum : 0;
        int64_t half = (int64_t)1 << (network.shift - 1);
        int64_t scaled = (positive * network.multiplier1[unit] + half) >> network.shift;
        activation[unit] = (uint8_t)(scaled < ACTIVATION_MAX ? scaled : ACTIVATION_MAX);
    }

    uint8_t best = 0;
    int32_t best_score = INT32_MIN;
    weight = network.w2;
    for (uint8_t digit = 0; digit < CLASSES; digit++, weight += network.hidden) {
        int32_t sum = network.bias2[digit];
        for (uint32_t i = 0; i < network.hidden; i++) sum += weight[i] * activation[i];
        if (sum > best_score) {
            best_score = sum;
            best = digit;
        }
    }
    return best;
}

static void report_progress(uint32_t round, uint32_t done) {
    Line line;
    line.length = 0;
    put(&line, "round ");
    put_number(&line, round);
    put(&line, "/");
    put_number(&line, options.rounds);
    put(&line, ": ");
    put_number(&line, done);
    put(&line, " of ");
    put_number(&line, rows);
    put(&line, " digits\n");
    uint32_t error = write_all(STDOUT, line.bytes, line.length);
    if (error != 0) fail(EXIT_HOST, "WASI error ", error, " on writing to stdout");

    if (options.pace_ms == 0) return;
    ClockSubscription pause = {.clock = CLOCK_MONOTONIC, .timeout_ns = (uint64_t)options.pace_ms * 1000000};
    Event event = {.error = 0};
    uint32_t events = 0;
    error = wasi_poll_oneoff(&pause, &event, 1, &events);
    if (error == 0) error = event.error;
    if (error != 0) fail(EXIT_HOST, "WASI error ", error, " on poll_oneoff");
}

/* ---- Output ---- */

static void write_predictions(void) {
    static const char heading[] = "index,digit\n";
    enum { ROW_BYTES = 8 }; /* "16383,9\n" */
    static char csv[sizeof heading + ROWS_LIMIT * ROW_BYTES];
    uint32_t length = 0;
    for (const char *at = heading; *at != 0; at++) csv[length++] = *at;
    for (uint32_t row = 0; row < rows; row++) {
        Line line;
        line.length = 0;
        put_number(&line, row);
        put(&line, ",");
        put_number(&line, predictions[row]);
        put(&line, "\n");
        for (uint32_t i = 0; i < line.length; i++) csv[length++] = line.bytes[i];
    }

    static const char name[] = "predictions.csv";
    uint32_t fd;
    uint32_t error = wasi_path_open(OUT, 0, name, sizeof name - 1, OPEN_CREATE | OPEN_TRUNCATE, RIGHT_WRITE, 0, 0, &fd);
    if (error != 0) fail(EXIT_HOST, "predictions.csv: WASI error ", error, " on creating it in /out");
    error = write_all(fd, csv, length);
    if (error != 0) fail(EXIT_HOST, "predictions.csv: WASI error ", error, " on writing it");
    error = wasi_fd_close(fd);
    if (error != 0) fail(EXIT_HOST, "predictions.csv: WASI error ", error, " on closing it");
}

__attribute__((export_name("_start"))) void _start(void) {
    read_arguments();
    check_weights(read_file("weights.bin", 11, weights_file, WEIGHTS_BYTES_LIMIT, "weights.bin: WASI error "));
    check_digits(read_file("digits.bin", 10, digits_file, DIGITS_BYTES_LIMIT, "digits.bin: WASI error "));
    for (uint32_t round = 1; round <= options.rounds; round++) {
        for (uint32_t row = 0; row < rows; row++) {
            predictions[row] = classify(pixels + row * PIXELS);
            if ((row + 1) % PROGRESS_ROWS == 0 || row + 1 == rows) report_progress(round, row + 1);
        }
    }
    write_predictions();
}
