/* Reads a token file (docs/token_files.md), packed, with its own frequencies, in packets, or with
 * runs and a voice, from standard input, and writes its header and its tokens, one a line, to
 * standard output. The tokens of a voice are in a line of the header.
 *
 *     cc -std=c99 -O2 -o read_fct docs/read_fct.c && ./read_fct < clip.fct
 *
 * Tokens are written as they come: they are good if the program ends with 0. */

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define FIXED 36
#define PACKED 0
#define OWN 1
#define PACKETS 3
#define VOICED 4
#define REPEATED 5 /* packets that may begin with tokens of those before */

static uint32_t crc = 0xFFFFFFFF; /* of the bytes since the last check */

static void fail(const char *message)
{
    fflush(stdout);
    fprintf(stderr, "read_fct: %s\n", message);
    exit(1);
}

static int may_end; /* in packets: a writer that was killed leaves no end */

static int next_byte(void)
{
    int byte = getchar();
    if (byte == EOF) {
        if (may_end)
            exit(0);
        fail("truncated");
    }
    crc ^= (uint32_t)byte;
    for (int bit = 0; bit < 8; bit++)
        crc = crc >> 1 ^ (crc & 1 ? 0xEDB88320 : 0);
    return byte;
}

static void read_bytes(uint8_t *bytes, size_t count)
{
    for (size_t i = 0; i < count; i++)
        bytes[i] = (uint8_t)next_byte();
}

static uint64_t number(const uint8_t *bytes, int size) /* little-endian */
{
    uint64_t value = 0;
    while (size--)
        value = value << 8 | bytes[size];
    return value;
}

static void check_crc(void)
{
    uint32_t found = ~crc;
    uint8_t stored[4];
    read_bytes(stored, 4);
    if (number(stored, 4) != found)
        fail("corrupted, its CRC differs");
    crc = 0xFFFFFFFF;
}

static void write_packed(uint64_t num_tokens, int bits)
{
    uint64_t window = 0; /* bits that were read and not yet used are its lowest */
    int held = 0;
    for (uint64_t i = 0; i < num_tokens; i++) {
        while (held < bits) {
            window = window << 8 | (uint64_t)next_byte();
            held += 8;
        }
        held -= bits;
        printf("%" PRIu64 "\n", window >> held & ((UINT64_C(1) << bits) - 1));
    }
    if (window & ((UINT64_C(1) << held) - 1))
        fail("corrupted, the bits that fill the last byte are not zero");
    check_crc();
}

static void write_packets(int bits, int may_repeat)
{
    uint8_t head[6], samples[5], *body = malloc(4 * 65535);
    uint64_t done = 0;
    if (!body)
        fail("out of memory");
    may_end = 1;
    for (;;) {
        read_bytes(head, 6);
        uint64_t first = number(head, 4), count = number(head + 4, 2);
        if (first > done || (first < done && !may_repeat))
            fail("corrupted, tokens are missing between two packets");
        if (!count)
            break;
        read_bytes(body, (count * (uint64_t)bits + 7) / 8);
        check_crc();
        const uint8_t *next = body;
        uint64_t window = 0;
        int held = 0;
        for (uint64_t i = 0; i < count; i++) {
            for (; held < bits; held += 8)
                window = window << 8 | *next++;
            held -= bits;
            if (first + i >= done)
                printf("%" PRIu64 "\n", window >> held & ((UINT64_C(1) << bits) - 1));
        }
        if (window & ((UINT64_C(1) << held) - 1))
            fail("corrupted, the bits that fill the last byte are not zero");
        if (first + count > done)
            done = first + count;
    }
    read_bytes(samples, 5);
    check_crc();
    printf("# %" PRIu64 " samples, %" PRIu64 " tokens\n", number(samples, 5), done);
    free(body);
}

static uint32_t *unpack(uint64_t count, int bits) /* the values that follow, to be freed */
{
    uint32_t *values = NULL;
    uint64_t window = 0, room = 0;
    int held = 0;
    for (uint64_t i = 0; i < count; i++) {
        if (i == room) { /* grows with what really comes */
            room = room ? 2 * room : 4096;
            values = realloc(values, room * sizeof *values);
            if (!values)
                fail("out of memory");
        }
        for (; held < bits; held += 8)
            window = window << 8 | (uint64_t)next_byte();
        held -= bits;
        values[i] = (uint32_t)(window >> held & ((UINT64_C(1) << bits) - 1));
    }
    if (window & ((UINT64_C(1) << held) - 1))
        fail("corrupted, the bits that fill the last byte are not zero");
    return values;
}

static void write_voiced(uint64_t num_tokens, int bits)
{
    uint8_t head[6];
    read_bytes(head, 6);
    uint64_t count = number(head + 2, 4), done = 0;
    int length_bits = head[1];
    if (length_bits != 0 && length_bits != 3)
        fail("lengths of a later version");
    uint32_t *voice = unpack(head[0], 12), *toks = unpack(count, bits);
    uint32_t *lengths = length_bits ? unpack(count, length_bits) : NULL;
    check_crc();
    if (head[0]) {
        printf("# voice");
        for (int i = 0; i < head[0]; i++)
            printf(" %" PRIu32, voice[i]);
        printf("\n");
    }
    for (uint64_t i = 0; i < count; i++)
        done += lengths ? lengths[i] + 1 : 1;
    if (done != num_tokens)
        fail("corrupted, another number of tokens than in the header");
    for (uint64_t i = 0; i < count; i++)
        for (uint32_t n = lengths ? lengths[i] + 1 : 1; n; n--)
            printf("%" PRIu32 "\n", toks[i]);
    free(voice);
    free(toks);
    free(lengths);
}

struct coder {
    uint64_t lower, range, point;
    const uint8_t *words, *end;
};

static uint32_t next_word(struct coder *coder) /* zeros behind the last word */
{
    if (coder->words == coder->end)
        return 0;
    coder->words += 4;
    return (uint32_t)number(coder->words - 4, 4);
}

static uint32_t next_bit(struct coder *coder, uint8_t ones)
{
    const uint64_t total = UINT64_C(1) << 24;
    uint64_t zeros = ((256 - (uint64_t)ones) * (total - 2) >> 8) + 1;
    uint64_t scale = coder->range >> 24;
    uint64_t place = (coder->point - coder->lower) / scale;
    if (place >= total)
        fail("corrupted, the range coder finds impossible data");
    uint32_t bit = place >= zeros;
    coder->lower += bit ? scale * zeros : 0;
    coder->range = scale * (bit ? total - zeros : zeros);
    if (coder->range >> 32 == 0) {
        coder->lower <<= 32;
        coder->range <<= 32;
        coder->point = coder->point << 32 | next_word(coder);
    }
    return bit;
}

static void write_coded(uint64_t num_tokens, int bits)
{
    uint8_t size_bytes[4], ones[64];
    read_bytes(size_bytes, 4);
    uint64_t size = number(size_bytes, 4), most = (num_tokens * (uint64_t)bits + 7) / 8;
    if (size + 4 > most || size < 2 * (uint64_t)bits || (size - 2 * (uint64_t)bits) % 4)
        fail("corrupted, the size of its body is impossible");
    read_bytes(ones, 2 * (size_t)bits);
    size -= 2 * (uint64_t)bits;
    uint8_t *words = NULL;
    for (size_t used = 0, room = 0; used < size; used++) { /* grows with what really comes */
        if (used == room) {
            room = room ? 2 * room : 4096;
            words = realloc(words, room);
            if (!words)
                fail("out of memory");
        }
        words[used] = (uint8_t)next_byte();
    }
    check_crc();
    if (num_tokens * (uint64_t)bits > size / 4 * 6000)
        fail("corrupted, its body is too small");
    struct coder coder = {0, UINT64_MAX, 0, words, words + size};
    coder.point = (uint64_t)next_word(&coder) << 32;
    coder.point |= next_word(&coder);
    uint32_t before = 0;
    for (uint64_t i = 0; i < num_tokens; i++) {
        uint32_t tok = 0;
        for (int place = 0; place < bits; place++) {
            uint32_t after_one = before >> (bits - 1 - place) & 1;
            tok = tok << 1 | next_bit(&coder, ones[after_one * (uint32_t)bits + (uint32_t)place]);
        }
        printf("%" PRIu32 "\n", tok);
        before = tok;
    }
    free(words);
}

int main(void)
{
    uint8_t fixed[FIXED], model[256] = {0}, id[256] = {0};
    read_bytes(fixed, 4);
    if (fixed[0] != 'F' || fixed[1] != 'C' || fixed[2] != 'T')
        fail("not a token file");
    if (fixed[3] != 1)
        fail("another version of the format");
    read_bytes(fixed + 4, FIXED - 4);
    read_bytes(model, fixed[6]);
    read_bytes(id, fixed[7]);
    check_crc();

    int body = fixed[4], bits = fixed[5];
    uint64_t num_tokens = number(fixed + 32, 4);
    if (bits < 1 || bits > 32 || (num_tokens < 1) != (body == PACKETS || body == REPEATED))
        fail("corrupted, no tokens or an impossible number of bits");
    printf("# model %s\n# weights ", (char *)model);
    for (int i = 8; i < 16; i++)
        printf("%02x", fixed[i]);
    printf("\n# id %s\n# %d bits a token, %" PRIu64 " samples a token\n", (char *)id, bits,
           number(fixed + 16, 2));
    printf("# %" PRIu64 " Hz in, %" PRIu64 " Hz out\n", number(fixed + 18, 3),
           number(fixed + 21, 3));
    printf("# %" PRIu64 " samples at %" PRIu64 " Hz\n", number(fixed + 27, 5),
           number(fixed + 24, 3));
    printf("# %" PRIu64 " tokens\n", num_tokens);

    if (body == PACKED)
        write_packed(num_tokens, bits);
    else if (body == OWN)
        write_coded(num_tokens, bits);
    else if (body == PACKETS || body == REPEATED)
        write_packets(bits, body == REPEATED);
    else if (body == VOICED)
        write_voiced(num_tokens, bits);
    else
        fail("its body needs a table of frequencies, or is of a later version");
    if (getchar() != EOF)
        fail("bytes after its end");
    return 0;
}
