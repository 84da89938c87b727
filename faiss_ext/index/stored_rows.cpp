#include <faiss_ext/index/stored_rows.h>

#include <algorithm>
#include <cstring>

#include <faiss/invlists/DirectMap.h>

#include <faiss_ext/lists/scann_lists.h>
#include <faiss_ext/memory/query_rows.h>
#include <faiss_ext/memory/row_sample.h>
#include <faiss_ext/model/index_state.h>

namespace faiss_ext {

using faiss::lo_listno;
using faiss::lo_offset;

NumberedRows::NumberedRows(const ScaNNLists& lists) : ends_(lists.nlist) {
    size_t end = 0;
    for (size_t l = 0; l < lists.nlist; l++) {
        end += lists.list_size(l);
        ends_[l] = end;
    }
}

uint64_t NumberedRows::place(size_t number) const {
    const auto end = std::upper_bound(ends_.begin(), ends_.end(), number);
    const size_t list = size_t(end - ends_.begin());
    const size_t begin = list == 0 ? 0 : ends_[list - 1];
    return faiss::lo_build(list, number - begin);
}

std::vector<uint64_t>
sample_places(const ScaNNLists& lists, size_t wanted, uint64_t seed) {
    const NumberedRows rows(lists);
    std::vector<uint64_t> places;
    for (size_t number : sample_rows(rows.size(), wanted, seed)) {
        places.push_back(rows.place(number));
    }
    return places;
}

StoredRows::StoredRows(
        const IndexIVFScaNN& index,
        size_t n,
        const uint64_t* places)
        : d(size_t(index.d)), ids(n), lists(n) {
    const ScaNNLists& from = *index.state().lists;
    const EntryLayout& layout = from.layout();
    for (size_t i = 0; i < n; i++) {
        lists[i] = int64_t(lo_listno(places[i]));
        ids[i] = from.list(size_t(lists[i])).ids[lo_offset(places[i])];
    }
    if (layout.with_raw_data) {
        type = layout.raw_type;
        const size_t row_bytes = layout.raw_value_bytes();
        bytes.resize(n * row_bytes);
        for (size_t i = 0; i < n; i++) {
            const size_t offset = size_t(lo_offset(places[i]));
            std::memcpy(
                    bytes.data() + i * row_bytes,
                    from.raw_row(size_t(lists[i]), offset),
                    row_bytes);
        }
        return;
    }
    std::vector<uint8_t> entries(n * from.code_size);
    for (size_t i = 0; i < n; i++) {
        from.read_entries(
                size_t(lists[i]),
                size_t(lo_offset(places[i])),
                1,
                entries.data() + i * from.code_size);
    }
    std::vector<float> decoded(n * d);
    index.decode_vectors(
            int64_t(n), entries.data(), lists.data(), decoded.data());
    bytes.resize(n * d * sizeof(float));
    from_floats(type, n * d, decoded.data(), bytes.data());
}

std::vector<float> StoredRows::prepared(const IndexIVFScaNN& index) const {
    std::vector<float> floats(size() * d), scaled;
    to_floats(type, floats.size(), bytes.data(), floats.data());
    const float* rows = scaled_rows(
            size(), d, floats.data(), row_scale(index.state()), scaled);
    return rows == floats.data() ? std::move(floats) : std::move(scaled);
}

} // namespace faiss_ext
