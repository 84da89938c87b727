/*
 * What the sections of a ScaNN file hold (file_sections has the container).
 *
 *   index          fields and options, IndexHeader
 *   tree           faiss::write_index of the wrappers around an empty
 *                  IndexFlat in the place of the ScaNN index
 *   quantizer      faiss::write_index of the quantizer
 *   direct_map     uint64 n, n pairs of int64 (Hashtable) or values (Array)
 *   -- trained indexes only:
 *   rotation       uint64 values (0: identity), float[d * d]
 *   codebook       uint64 M, uint32[M + 1] offsets, float eta,
 *                  float[d * 16], ScoreTerm, float[nlist]
 *                  list_spread
 *   ranges         uint64 values (0: none), float[d] origin; float
 *                  error_limit, uint8 by_direction, uint8 scan_rows, float trial_recall (from
 *                  version 2 on)
 *   lists          EntryLayout, uint64 nlist, uint64[nlist] sizes
 *   spilled_lists  the same, only with spilled copies
 *   codes, ids, refine, raw               columns of all lists, one after the
 *   spilled_codes, ..., spilled_primary   other, each padded to 64 bytes
 *
 *   apart          for each list uint32 n, uint32[n] offsets (from version 2
 *   spilled_apart  on)
 *
 * Where a list's column begins follows from the sizes, so that no offset in a
 * file can be wrong. Columns that the layout does not have are left out.
 *
 * Next: index_io puts them together.
 */

#pragma once

#include <cstdint>
#include <memory>

#include <faiss_ext/IndexIVFScaNN.h>
#include <faiss_ext/io/file_sections.h>

namespace faiss_ext {

/// Fields of the section "index", in the order of the file.
struct IndexHeader {
    uint64_t d = 0;
    uint64_t nlist = 0;
    int64_t ntotal = 0;
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

IndexHeader header_of(const IndexIVFScaNN& index);
void put_header(SectionSink& sink, const IndexHeader& header);
void apply_header(const IndexHeader& header, IndexIVFScaNN& index);
/// Checks ranges too, but of options only what their types cannot hold.
IndexHeader get_header(ByteReader reader);

/// Without entries if the map does not fit the index.
void put_direct_map(SectionSink& sink, const IndexIVFScaNN& index);
/// Throws on entries that are not where an Array says, or in no list.
void get_direct_map(
        ByteReader reader,
        faiss::DirectMap::Type type,
        uint64_t ntotal,
        const ScaNNLists& lists,
        faiss::DirectMap& map);

void put_rotation(SectionSink& sink, const Rotation& rotation);
Rotation get_rotation(ByteReader reader, size_t d);

/// What training made besides centroids and rotation.
void put_codebook(SectionSink& sink, const ScaNNModel& trained);
/// @param M  codes that an index with these options has
/// @param trained  out, except rotation and the metric of score_term
void get_codebook(
        ByteReader reader,
        size_t d,
        size_t M,
        size_t nlist,
        ScaNNModel& trained);

/// What the codes count from, and how far they reach.
void put_ranges(SectionSink& sink, const ScaNNModel& trained);
/// @param trained  in: metric of the term; out
void get_ranges(ByteReader reader, size_t d, ScaNNModel& trained);

/// Ids of the IndexIDMaps around the index, outermost first. Faiss' own
/// format does without: since 1.15 it refuses a map around a placeholder.
void put_id_maps(SectionSink& sink, const faiss::Index& root);

/// Fills the maps of `root`. @param ntotal  ids that each must have
void get_id_maps(ByteReader reader, uint64_t ntotal, faiss::Index& root);

/// "lists" or "spilled_lists"
void put_list_table(SectionSink& sink, const ScaNNLists& lists);

/** Sizes of the lists.
 * @param layout   that the lists of the index have
 * @param largest  vectors that there can be at most */
std::vector<uint64_t> get_list_table(
        ByteReader reader,
        size_t nlist,
        const EntryLayout& layout,
        uint64_t largest);

/// Appends the sections of the columns. Borrows `lists`.
void add_column_sections(
        const ScaNNLists& lists,
        const std::string& prefix,
        std::vector<Section>& sections);

/// Reads them: copied and verified from a stream, borrowed where mapped.
std::unique_ptr<ScaNNLists> read_columns(
        const EntryLayout& layout,
        const std::vector<uint64_t>& sizes,
        const std::string& prefix,
        SectionReader& reader);

/// "apart" or "spilled_apart"
void put_apart(SectionSink& sink, const ScaNNLists& lists);
void get_apart(ByteReader reader, ScaNNLists& lists);

/// Throws unless each copy names another entry of the primary lists.
void check_primary(const ScaNNLists& spilled, const ScaNNLists& lists);

} // namespace faiss_ext
