#include <faiss_ext/index/calibration_queries.h>

#include <algorithm>
#include <numeric>
#include <random>

#include <faiss/impl/FaissAssert.h>
#include <faiss/invlists/DirectMap.h>

#include <faiss_ext/index/stored_rows.h>
#include <faiss_ext/model/index_state.h>

namespace faiss_ext {

namespace {

CalibrationQueries draw_queries(const IndexIVFScaNN& index, size_t count) {
    const ScaNNLists& lists = *index.state().lists;
    const size_t d = size_t(index.d);
    const NumberedRows rows(lists);
    std::vector<size_t> chosen(rows.size());
    std::iota(chosen.begin(), chosen.end(), 0);
    std::mt19937_64 random(index.options.seed);
    count = std::min(count, chosen.size());
    CalibrationQueries drawn;
    for (size_t i = 0; i < count; i++) {
        std::swap(chosen[i], chosen[i + random() % (chosen.size() - i)]);
        const uint64_t place = rows.place(chosen[i]);
        const size_t list = size_t(faiss::lo_listno(place));
        const size_t offset = size_t(faiss::lo_offset(place));
        drawn.x.resize(drawn.x.size() + d);
        index.reconstruct_from_offset(list, offset, drawn.x.data() + i * d);
        drawn.ids.push_back(lists.get_single_id(list, offset));
        drawn.places.push_back(place);
    }
    return drawn;
}

} // namespace

void check_can_draw(
        const IndexIVFScaNN& index,
        const float* queries,
        const char* doing) {
    FAISS_THROW_IF_NOT_FMT(
            queries != nullptr || index.options.with_raw_data,
            "%s without queries draws them from raw rows, and this index keeps "
            "none (allowed: queries, or with_raw_data)",
            doing);
}

CalibrationQueries queries_or_rows(
        const IndexIVFScaNN& index,
        int64_t n,
        const float* queries,
        size_t drawn) {
    if (queries == nullptr) {
        return draw_queries(index, drawn);
    }
    return {{queries, queries + n * index.d}, {}, {}};
}

} // namespace faiss_ext
