/*
 * New inputs from old ones, for the two containers: a section, or the bytes
 * behind a blob's header, is changed by libFuzzer's mutations or gets a value
 * that has a meaning where it stands; then sizes and checksums are made right.
 * Two inputs exchange sections, or one's header stands before the other's
 * bytes.
 */

#include <algorithm>
#include <cstring>
#include <iterator>
#include <random>

#include "sealing.h"

extern "C" size_t LLVMFuzzerMutate(uint8_t* data, size_t size, size_t max_size);

namespace {

using fuzz::Buffer;
using fuzz::Bytes;

constexpr size_t kGrowth = 64;

const uint64_t kNumbers[] = {
        0,          1,          2,          3,          4,          7,
        8,          15,         16,         31,         32,         33,
        63,         64,         255,        256,        65535,      65536,
        65537,      0x7fffffff, 0x80000000, 0xffffffff, 1ull << 32, 1ull << 40,
        1ull << 52, 1ull << 61, 1ull << 62, 1ull << 63, ~0ull,      ~0ull - 1,
        1ull << 30, 1ull << 26, 40000000,   1ull << 28};
const uint32_t kFloats[] = {
        0x00000000,
        0x80000000,
        0x3f800000,
        0xbf800000,
        0x7f800000,
        0xff800000,
        0x7fc00000,
        0xffc00000,
        0x7f7fffff,
        0xff7fffff,
        0x00000001,
        0x00800000,
        0x7149f2ca,
        0x0da24260,
        0x4f000000,
        0xcf000000,
        0x5f000000,
        0x43000000};

template <class T>
void set_somewhere(Buffer& bytes, T value, std::minstd_rand& random) {
    if (bytes.size() < sizeof(T)) {
        return;
    }
    size_t at = random() % (bytes.size() - sizeof(T) + 1);
    if (random() % 4 != 0) {
        at -= at % 4;
    }
    std::memcpy(bytes.data() + at, &value, sizeof(T));
}

void change(Buffer& bytes, std::minstd_rand& random) {
    uint64_t number = kNumbers[random() % std::size(kNumbers)];
    switch (random() % 6) {
        case 0:
            set_somewhere(bytes, number, random);
            break;
        case 1:
            set_somewhere(bytes, uint32_t(number), random);
            break;
        case 2:
            set_somewhere(
                    bytes, kFloats[random() % std::size(kFloats)], random);
            break;
        case 3:
            if (!bytes.empty()) {
                bytes[random() % bytes.size()] = uint8_t(random() % 8);
            }
            break;
        default: {
            size_t n = bytes.size();
            // mostly of the same size: lengths are checked first
            size_t room =
                    random() % 4 == 0 ? n + kGrowth : std::max<size_t>(n, 1);
            bytes.resize(room);
            size_t left = LLVMFuzzerMutate(bytes.data(), n, room);
            bytes.resize(left);
            if (room == n || n == 0) {
                bytes.resize(random() % 8 == 0 ? left : n);
            }
        }
    }
}

size_t hand_over(const Buffer& bytes, uint8_t* data, size_t max_size) {
    size_t n = std::min(bytes.size(), max_size);
    std::memcpy(data, bytes.data(), n);
    return n;
}

Buffer section_changed(Bytes input, std::minstd_rand& random) {
    auto file = fuzz::take_apart(input);
    if (!file || file->sections.empty()) {
        return {};
    }
    for (size_t i = random() % 3 + 1; i > 0; i--) {
        change(file->sections[random() % file->sections.size()].bytes, random);
    }
    if (random() % 64 == 0) {
        file->version = random() % 4;
    }
    return fuzz::put_together(*file);
}

Buffer body_changed(Bytes input, std::minstd_rand& random) {
    Buffer body(input.begin() + fuzz::kBlobHeader, input.end());
    for (size_t i = random() % 3 + 1; i > 0; i--) {
        change(body, random);
    }
    Buffer made(input.begin(), input.begin() + fuzz::kBlobHeader);
    if (random() % 16 == 0) {
        uint32_t metric = random() % 4;
        std::memcpy(&made[12], &metric, sizeof(metric));
    }
    made.insert(made.end(), body.begin(), body.end());
    return made;
}

} // namespace

extern "C" size_t LLVMFuzzerCustomMutator(
        uint8_t* data,
        size_t size,
        size_t max_size,
        unsigned seed) {
    std::minstd_rand random(seed);
    Bytes input(data, size);
    Buffer made;
    if (random() % 16 != 0) {
        if (fuzz::is_index_file(input)) {
            made = section_changed(input, random);
        } else if (fuzz::is_blob(input)) {
            made = body_changed(input, random);
        }
    }
    if (made.empty()) {
        size = LLVMFuzzerMutate(data, size, max_size);
        made.assign(data, data + size);
    }
    return hand_over(fuzz::sealed(made), data, max_size);
}

extern "C" size_t LLVMFuzzerCustomCrossOver(
        const uint8_t* data1,
        size_t size1,
        const uint8_t* data2,
        size_t size2,
        uint8_t* out,
        size_t max_size,
        unsigned seed) {
    std::minstd_rand random(seed);
    Bytes a(data1, size1), b(data2, size2);
    Buffer made;
    auto file = fuzz::take_apart(a), other = fuzz::take_apart(b);
    if (file && other) {
        for (auto& section : file->sections) {
            for (const auto& from : other->sections) {
                if (from.name == section.name && random() % 4 == 0) {
                    section.bytes = from.bytes;
                }
            }
        }
        made = fuzz::put_together(*file);
    } else if (fuzz::is_blob(a) && fuzz::is_blob(b)) {
        made.assign(a.begin(), a.begin() + fuzz::kBlobHeader);
        size_t cut = random() % 2 == 0 ? 0
                                       : random() % (std::min(size1, size2) -
                                                     fuzz::kBlobHeader + 1);
        made.insert(
                made.end(),
                a.begin() + fuzz::kBlobHeader,
                a.begin() + fuzz::kBlobHeader + cut);
        made.insert(made.end(), b.begin() + fuzz::kBlobHeader + cut, b.end());
    } else {
        return 0;
    }
    return hand_over(fuzz::sealed(made), out, max_size);
}
