/*
 * What the sections of a ScaNN file hold (file_sections has the container).
 *
 *   index          fields and options, IndexHeader; uint8 raw_type (from
 *                  version 4 on), uint64 coded_dims, uint8 with_tags, float
 *                  auto_maintain, uint64 changed rows (from version 5 on)
 *   tree           faiss::write_index of the wrappers around an empty
 *                  IndexFlat in the place of the ScaNN index
 *   quantizer      faiss::write_index of the quantizer
 *   direct_map     uint64 n, n pairs of int64 (Hashtable) or values (Array)
 *   -- trained indexes only:
 *   rotation       uint64 values (0: identity), float[d * d]
 *   codebook       uint64 M, uint32[M + 1] offsets (up to version 4 the last
 *                  is d), float eta, float[16 * last offset], ScoreTerm,
 *                  float[nlist] list_spread
 *   ranges         uint64 values (0: none), float[d] origin; float
 *                  error_limit, uint8 by_direction, uint8 scan_rows, float trial_recall (from
 *                  version 2 on)
 *   groups         uint64 n (0: none), uint32[n] group of each list (from
 *                  version 3 on)
 *   fit            ModelFit, without changed (from version 5 on)
 *   profile        uint64 0, or what calibrate() measured (profile_section; from
 *                  version 5 on)
 *   lists          EntryLayout, uint8 raw_type (from version 4 on), uint8
 *                  has_tag (from version 5 on),
 *                  uint64 nlist, uint64[nlist] sizes
 *   spilled_lists  the same, only with spilled copies
 *   codes, ids, refine, raw, tags         columns of all lists, one after the
 *   spilled_codes, ..., spilled_primary   other, each padded to 64 bytes
 *
 *   apart          for each list uint32 n, uint32[n] offsets (from version 2
 *   spilled_apart  on)
 *
 * Where a list's column begins follows from the sizes, so that no offset in a
 * file can be wrong. Columns that the layout does not have are left out.
 *
 * Here is the first of them; faiss_sections, model_sections, direct_map_section
 * and list_sections have the others, wrappers/id_map_section the ids of wrappers.
 * Next: index_io puts them together.
 */

#pragma once

#include <cstdint>

#include <faiss_ext/io/file_sections.h>
#include <faiss_ext/scann_options.h>

namespace faiss_ext {

/// Fields of the section "index", in the order of the file.
struct IndexHeader {
    uint64_t d = 0;
    uint64_t nlist = 0;
    int64_t ntotal = 0;
    uint64_t changed = 0; ///< ModelFit's
    uint8_t metric = 0;
    bool is_trained = false;
    bool verbose = false;
    uint8_t quantizer_trains_alone = 0;
    uint8_t direct_map_type = 0;
    int32_t parallel_mode = 0;
    uint64_t nprobe = 1;
    uint64_t max_codes = 0;
    uint64_t reorder_k = 0;
    uint64_t refine_k = 0;
    ScaNNCalibration calibration;
    ScaNNOptions options;
};

void put_header(SectionSink& sink, const IndexHeader& header);
/// Checks ranges, but of options only those of their types.
/// @param version  of the file
IndexHeader get_header(ByteReader reader, uint32_t version);

} // namespace faiss_ext
