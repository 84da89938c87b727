/*
 * "ScaNN" for the FAISS index type of Knowhere: our factory, files and search
 * parameters behind the host's functions. In and out: the host's own types.
 */

#include <knowhere_plugin/knowhere_faiss/engine.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <exception>

#include <faiss/impl/FaissAssert.h>
#include <faiss/impl/mapped_io.h>

#include <faiss_ext/IndexIVFScaNN.h>
#include <faiss_ext/index_factory.h>
#include <faiss_ext/index_io.h>
#include <faiss_ext/io/file_sections.h>

#include <knowhere_plugin/knowhere_faiss/host_check.h>

namespace knowhere_plugin::knowhere_faiss {

namespace {

// ----------------------------------------------------------------- files

using IndexPtr = std::unique_ptr<faiss::Index>;

using faiss_ext::kFileMagic;

bool is_magic(const void* bytes, size_t size) {
    return size >= sizeof(kFileMagic) &&
           std::memcmp(bytes, kFileMagic, sizeof(kFileMagic)) == 0;
}

/// A reader whose first bytes have been read already.
class Continued : public faiss::IOReader {
 public:
    Continued(faiss::IOReader& rest, const char* begin, size_t size)
            : rest_(rest), begin_(begin), left_(size) {
        name = rest.name;
    }

    size_t operator()(void* out, size_t size, size_t n) override {
        const size_t wanted = size * n;
        const size_t from_begin = std::min(wanted, left_);
        std::memcpy(out, begin_, from_begin);
        begin_ += from_begin;
        left_ -= from_begin;
        if (from_begin == wanted) {
            return n;
        }
        char* to = static_cast<char*>(out) + from_begin;
        return (from_begin + rest_(to, 1, wanted - from_begin)) / size;
    }

    int filedescriptor() override {
        return rest_.filedescriptor();
    }

 private:
    faiss::IOReader& rest_;
    const char* begin_;
    size_t left_;
};

/// What the host has mapped is used in place.
IndexPtr read_mapped(faiss::MappedFileIOReader& reader) {
    const size_t size = reader.mmap_owner->size() - reader.pos;
    std::shared_ptr<const uint8_t> bytes(
            reader.mmap_owner,
            static_cast<const uint8_t*>(reader.mmap_owner->data()) +
                    reader.pos);
    IndexPtr index(faiss_ext::read_index(bytes, size));
    reader.pos += size;
    return index;
}

IndexPtr read_ours(faiss::IOReader& reader) {
    return IndexPtr(faiss_ext::read_index(&reader));
}

/// Reads from where a stream of unknown kind, or one that cannot go back, is.
IndexPtr read_stream(faiss::IOReader& reader, int io_flags, HostRead host) {
    char begin[sizeof(kFileMagic)];
    const size_t size = reader(begin, 1, sizeof(begin));
    Continued whole(reader, begin, size);
    return is_magic(begin, size) ? read_ours(whole) : host(&whole, io_flags);
}

/// Whether a file continues with our bytes; it stays where it is.
bool file_is_ours(FILE* file, bool& can_go_back) {
    const long at = std::ftell(file);
    can_go_back = at >= 0;
    if (!can_go_back) {
        return false;
    }
    char begin[sizeof(kFileMagic)];
    const size_t size = std::fread(begin, 1, sizeof(begin), file);
    FAISS_THROW_IF_NOT_MSG(
            std::fseek(file, at, SEEK_SET) == 0, "cannot seek in the file");
    return is_magic(begin, size);
}

/// The host looks at the class of its readers: it gets them as they are.
IndexPtr read_index(faiss::IOReader* reader, int io_flags, HostRead host) {
    if (auto mapped = dynamic_cast<faiss::MappedFileIOReader*>(reader)) {
        const size_t size = mapped->mmap_owner->size();
        const char* data = static_cast<const char*>(mapped->mmap_owner->data());
        const size_t at = std::min(mapped->pos, size);
        return is_magic(data + at, size - at) ? read_mapped(*mapped)
                                              : host(reader, io_flags);
    }
    if (auto bytes = dynamic_cast<faiss::VectorIOReader*>(reader)) {
        const size_t at = std::min(bytes->rp, bytes->data.size());
        return is_magic(bytes->data.data() + at, bytes->data.size() - at)
                       ? read_ours(*reader)
                       : host(reader, io_flags);
    }
    if (auto file = dynamic_cast<faiss::FileIOReader*>(reader)) {
        bool can_go_back = false;
        const bool ours = file_is_ours(file->f, can_go_back);
        if (can_go_back) {
            return ours ? read_ours(*reader) : host(reader, io_flags);
        }
    }
    return read_stream(*reader, io_flags, host);
}

void write_index(const faiss::Index* index, faiss::IOWriter* writer) {
    faiss_ext::write_index(index, writer);
}

// --------------------------------------------------------- index, search

faiss::Index*
index_factory(int d, const char* description, faiss::MetricType metric) {
    return faiss_ext::index_factory(d, description, metric);
}

bool is_ours(const faiss::Index* index) {
    return index != nullptr && faiss_ext::find_scann(index) != nullptr;
}

/** For all wrappers, too: the host sets the selector of these parameters, and
 * of IndexPreTransform's would not hand it on. */
struct HostSearchParameters : faiss_ext::SearchParametersScaNN {
    /// of the index; more probes mean all lists, as in Faiss
    size_t nlist = 1;
};

std::unique_ptr<faiss::SearchParameters> make_search_params(
        const faiss::Index* index) {
    auto made = std::make_unique<HostSearchParameters>();
    made->nlist = std::max<size_t>(faiss_ext::find_scann(index)->nlist, 1);
    return made;
}

std::set<std::string> search_param_names() {
    return {"nprobe", "max_codes", "reorder_k", "refine_k"};
}

size_t count_in(const std::string& name, double value, double min) {
    constexpr double kMax = 2147483647;
    FAISS_THROW_IF_NOT_FMT(
            value >= min && value <= kMax && value == std::floor(value),
            "%s = %g (allowed: %.0f..%.0f)",
            name.c_str(),
            value,
            min,
            kMax);
    return size_t(value);
}

bool set_search_param(
        faiss::SearchParameters* params,
        const std::string& name,
        double value) {
    auto ours = dynamic_cast<HostSearchParameters*>(params);
    if (ours == nullptr) {
        return false;
    }
    if (name == "nprobe") {
        ours->nprobe = std::min(count_in(name, value, 1), ours->nlist);
    } else if (name == "max_codes") {
        ours->max_codes = count_in(name, value, 0);
    } else if (name == "reorder_k") {
        ours->reorder_k = count_in(name, value, 1);
    } else if (name == "refine_k") {
        ours->refine_k = count_in(name, value, 1);
    } else {
        return false;
    }
    return true;
}

constexpr Engine kEngine{
        index_factory,
        is_ours,
        write_index,
        read_index,
        make_search_params,
        search_param_names,
        set_search_param};

} // namespace

} // namespace knowhere_plugin::knowhere_faiss

extern "C" __attribute__((visibility("default")))
const knowhere_plugin::knowhere_faiss::Engine*
faiss_ext_knowhere_engine(char* why, size_t size) noexcept {
    using namespace knowhere_plugin::knowhere_faiss;
    std::string difference;
    try {
        difference = host_mismatch();
    } catch (const std::exception& error) {
        difference = error.what();
    } catch (...) {
        difference = "the host's factory throws";
    }
    if (difference.empty()) {
        return &kEngine;
    }
    const size_t length = std::min(size - 1, difference.size());
    std::memcpy(why, difference.data(), length);
    why[length] = 0;
    return nullptr;
}
