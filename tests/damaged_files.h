/* Files of an index as parts: taken to pieces, changed, put together again with
 * right checksums. And all that can be done with an index that is read from
 * one. */

#pragma once

#include <cstring>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include <zlib.h>

#include <faiss/impl/AuxIndexStructures.h>
#include <faiss/impl/DistanceComputer.h>
#include <faiss/impl/IDSelector.h>

#include <faiss_ext/file_sections.h>

#include "index_cases.h"

namespace damaged {

constexpr size_t kHeaderBytes = 32, kEntryBytes = 40;

struct Place {
    size_t entry; ///< of the table
    uint64_t offset, size;
};

template <class T>
T value_at(const std::string& bytes, size_t at) {
    T value;
    std::memcpy(&value, bytes.data() + at, sizeof(T));
    return value;
}

template <class T, class Bytes>
void set_at(Bytes& bytes, size_t at, T value) {
    std::memcpy(bytes.data() + at, &value, sizeof(T));
}

inline uint32_t crc_of(const std::string& bytes, size_t begin, size_t size) {
    auto data = reinterpret_cast<const Bytef*>(bytes.data());
    return uint32_t(crc32_z(0, data + begin, size));
}

inline std::map<std::string, Place> sections_of(const std::string& bytes) {
    std::map<std::string, Place> places;
    auto n = value_at<uint32_t>(bytes, 12);
    for (size_t i = 0; i < n; i++) {
        size_t entry = kHeaderBytes + i * kEntryBytes;
        places[std::string(bytes.data() + entry)] = {
                entry,
                value_at<uint64_t>(bytes, entry + 16),
                value_at<uint64_t>(bytes, entry + 24)};
    }
    return places;
}

/// Makes the checksum of the header right again.
inline void seal_header(std::string& bytes) {
    size_t n = kHeaderBytes + value_at<uint32_t>(bytes, 12) * kEntryBytes;
    set_at<uint32_t>(bytes, 24, 0);
    set_at<uint32_t>(bytes, 24, crc_of(bytes, 0, n));
}

/// Makes all checksums right again.
inline void seal(std::string& bytes) {
    for (const auto& [name, place] : sections_of(bytes)) {
        set_at<uint32_t>(
                bytes,
                place.entry + 32,
                crc_of(bytes, place.offset, place.size));
    }
    seal_header(bytes);
}

/// Name and bytes of each section, in their order.
using Sections = std::vector<std::pair<std::string, std::string>>;

inline Sections take_apart(const std::string& bytes) {
    Sections sections;
    auto n = value_at<uint32_t>(bytes, 12);
    for (size_t i = 0; i < n; i++) {
        size_t entry = kHeaderBytes + i * kEntryBytes;
        sections.emplace_back(
                std::string(bytes.data() + entry),
                bytes.substr(
                        value_at<uint64_t>(bytes, entry + 16),
                        value_at<uint64_t>(bytes, entry + 24)));
    }
    return sections;
}

/// A file of these sections. @param like  one whose version it has
inline std::string put_together(
        const Sections& sections,
        const std::string& like) {
    std::string bytes = like.substr(0, kHeaderBytes);
    bytes.resize(kHeaderBytes + sections.size() * kEntryBytes);
    for (size_t i = 0; i < sections.size(); i++) {
        const auto& [name, contents] = sections[i];
        bytes.resize((bytes.size() + 63) / 64 * 64);
        size_t entry = kHeaderBytes + i * kEntryBytes;
        std::memcpy(bytes.data() + entry, name.data(), name.size());
        set_at<uint64_t>(bytes, entry + 16, bytes.size());
        set_at<uint64_t>(bytes, entry + 24, contents.size());
        set_at<uint32_t>(
                bytes, entry + 32, crc_of(contents, 0, contents.size()));
        bytes += contents;
    }
    set_at<uint32_t>(bytes, 12, uint32_t(sections.size()));
    set_at<uint64_t>(bytes, 16, bytes.size());
    seal_header(bytes);
    return bytes;
}

enum class Way { Memory, Stream, File, Mmap, MmapVerified };
constexpr Way kAllWays[] =
        {Way::Memory, Way::Stream, Way::File, Way::Mmap, Way::MmapVerified};

/// Does not say how long it is.
struct Stream : faiss::IOReader {
    const std::string& bytes;
    size_t at = 0;

    explicit Stream(const std::string& bytes) : bytes(bytes) {}
    size_t operator()(void* out, size_t size, size_t n) override {
        size_t items = std::min(n, (bytes.size() - at) / size);
        std::memcpy(out, bytes.data() + at, items * size);
        at += items * size;
        return items;
    }
};

inline cases::IndexPtr open_bytes(
        const cases::Directory& directory,
        const std::string& bytes,
        Way way) {
    using faiss_ext::ReadMode;
    if (way == Way::Stream) {
        Stream stream(bytes);
        return cases::IndexPtr(faiss_ext::read_index(&stream));
    }
    if (way == Way::Memory) {
        faiss::VectorIOReader reader;
        reader.data.assign(bytes.begin(), bytes.end());
        return cases::IndexPtr(faiss_ext::read_index(&reader));
    }
    std::string path = directory.file("damaged.scann");
    cases::write_bytes(path, bytes);
    ReadMode mode = way == Way::File   ? ReadMode::Copy
                    : way == Way::Mmap ? ReadMode::Mmap
                                       : ReadMode::MmapVerified;
    return cases::IndexPtr(faiss_ext::read_index(path, mode));
}

/** Every operation on an index, which may refuse any of them by a
 * FaissException, but nothing else. */
class EveryOperation {
 public:
    explicit EveryOperation(faiss::Index& index)
            : index_(index),
              scann_(*faiss_ext::find_scann(&index)),
              d_(size_t(index.d)) {
        rows_ = cases::rows(kRows, d_, 3);
        queries_ = cases::rows(kQueries, d_, 2);
        for (size_t j = 0; j < d_; j++) { // the last two: very large, small
            queries_[(kQueries - 2) * d_ + j] *= 1e37f;
            queries_[(kQueries - 1) * d_ + j] *= 1e-37f;
        }
    }

    void run() {
        search();
        read_rows();
        copy();
        change();
    }

 private:
    static constexpr size_t kRows = 6, kQueries = 5;

    template <class Work>
    static void attempt(Work&& work) {
        cases::message_of(work);
    }

    void search_with(size_t k, const faiss::SearchParameters* params) {
        attempt([&] {
            std::vector<float> distances(kQueries * k);
            std::vector<int64_t> labels(kQueries * k);
            index_.search(
                    kQueries,
                    queries_.data(),
                    k,
                    distances.data(),
                    labels.data(),
                    params);
        });
    }

    void search() {
        search_with(3, nullptr);
        faiss_ext::SearchParametersScaNN params;
        params.nprobe = scann_.nlist;
        search_with(100, &params);
        const int64_t ids[] = {0, 1, 5, 8, 38, 1000};
        const uint8_t bits[] = {0x21, 0xff, 0, 0xa5, 0xff, 1};
        faiss::IDSelectorRange range(0, 40);
        faiss::IDSelectorArray array(6, ids);
        faiss::IDSelectorBatch batch(6, ids);
        faiss::IDSelectorBitmap bitmap(sizeof(bits), bits);
        for (faiss::IDSelector* selector :
             std::initializer_list<faiss::IDSelector*>{
                     &range, &array, &batch, &bitmap}) {
            for (size_t nprobe : {size_t(2), scann_.nlist}) {
                params.nprobe = nprobe;
                params.sel = selector;
                search_with(4, &params);
            }
        }
        params.sel = nullptr;
        params.nprobe = 0;
        for (float radius : {-1e30f, 5.f, 1e30f}) {
            attempt([&] {
                faiss::RangeSearchResult found(kQueries);
                index_.range_search(
                        kQueries, queries_.data(), radius, &found, &params);
            });
        }
    }

    void read_rows() {
        std::vector<float> x(kQueries * 3 * d_);
        for (int64_t id : {0, 5, 8, 62, 1000}) {
            attempt([&] { index_.reconstruct(id, x.data()); });
        }
        attempt([&] { scann_.reconstruct_n(0, 3, x.data()); });
        attempt([&] {
            std::vector<float> distances(kQueries * 3);
            std::vector<int64_t> labels(kQueries * 3);
            index_.search_and_reconstruct(
                    kQueries,
                    queries_.data(),
                    3,
                    distances.data(),
                    labels.data(),
                    x.data());
        });
        attempt([&] {
            std::unique_ptr<faiss::DistanceComputer> distances(
                    scann_.get_distance_computer());
            distances->set_query(queries_.data());
            (*distances)(0);
            distances->symmetric_dis(5, 8);
        });
        attempt([&] {
            std::unique_ptr<faiss::InvertedListScanner> scanner(
                    scann_.get_InvertedListScanner());
            scanner->set_query(queries_.data());
            for (size_t l = 0; l < scann_.nlist; l++) {
                scanner->set_list(int64_t(l), 0);
                faiss::InvertedLists::ScopedCodes codes(scann_.invlists, l);
                for (size_t i = 0; i < scann_.lists().list_size(l); i++) {
                    scanner->distance_to_code(
                            codes.get() + i * scann_.code_size);
                }
            }
        });
        attempt([&] {
            std::vector<uint8_t> codes(kRows * scann_.sa_code_size());
            scann_.sa_encode(kRows, rows_.data(), codes.data());
            std::vector<float> decoded(kRows * d_);
            scann_.sa_decode(kRows, codes.data(), decoded.data());
        });
        attempt([&] {
            scann_.notes();
            scann_.memory_usage();
            scann_.estimate_memory(1000);
        });
    }

    void copy() {
        attempt([&] {
            cases::IndexPtr copy(faiss_ext::clone_index(&index_));
            copy->reset();
            copy->add(kRows, rows_.data());
        });
        attempt([&] {
            faiss::VectorIOWriter writer;
            faiss_ext::write_index(&index_, &writer);
        });
        attempt([&] { cases::IndexPtr(faiss_ext::export_to_faiss(&index_)); });
        attempt([&] {
            cases::IndexPtr to(faiss_ext::clone_index(&scann_));
            cases::IndexPtr from(faiss_ext::clone_index(&scann_));
            auto& into = dynamic_cast<faiss_ext::IndexIVFScaNN&>(*to);
            attempt([&] {
                into.set_direct_map_type(faiss::DirectMap::NoMap);
                into.merge_from(*from, int64_t(1) << 62);
            });
            scann_.copy_subset_to(into, faiss_ext::SubsetType(0), 0, 40);
            to->search(1, queries_.data(), 1, rest_, labels_);
        });
    }

    void change() {
        std::vector<int64_t> ids = {5, 8, 70, 71, 72, 73};
        attempt([&] { index_.add(kRows, rows_.data()); });
        if (&index_ != &scann_) {
            // Faiss' wrappers lose count when the index in them is changed, or
            // rows are removed from them twice
            attempt([&] {
                index_.add_with_ids(kRows, rows_.data(), ids.data());
            });
            search_with(3, nullptr);
            return;
        }
        attempt([&] { index_.add_with_ids(kRows, rows_.data(), ids.data()); });
        attempt([&] {
            scann_.update_vectors(2, ids.data() + 4, rows_.data());
        });
        attempt([&] { scann_.update_vectors(2, ids.data(), rows_.data()); });
        attempt([&] {
            index_.remove_ids(faiss::IDSelectorBatch(3, ids.data()));
        });
        search(); // a map may name places that are no more
        using Map = faiss::DirectMap;
        for (Map::Type type : {Map::Hashtable, Map::Array, Map::NoMap}) {
            attempt([&] { scann_.set_direct_map_type(type); });
        }
        attempt([&] { index_.remove_ids(faiss::IDSelectorRange(0, 30)); });
        search_with(3, nullptr);
        attempt([&] { scann_.calibrate(2, queries_.data(), 0.9f, 3); });
        attempt([&] { index_.reset(); });
        attempt([&] { index_.add(kRows, rows_.data()); });
        search_with(3, nullptr);
    }

    faiss::Index& index_;
    faiss_ext::IndexIVFScaNN& scann_;
    size_t d_;
    std::vector<float> rows_, queries_;
    float rest_[1];
    int64_t labels_[1];
};

} // namespace damaged
