/* The sections of what training made: "rotation", "codebook", "ranges",
 * "groups". */

#pragma once

#include <cstddef>

#include <faiss_ext/io/file_sections.h>
#include <faiss_ext/model/scann_model.h>

namespace faiss_ext {

void put_rotation(SectionSink& sink, const ScaNNModel& model);
/// @param model  out: rotation
void get_rotation(ByteReader reader, size_t d, ScaNNModel& model);

void put_codebook(SectionSink& sink, const ScaNNModel& model);
/// @param M  codes that an index with these options has
/// @param model  out: pq, score_term but for its metric, list_spread
void get_codebook(
        ByteReader reader,
        size_t d,
        size_t M,
        size_t nlist,
        ScaNNModel& model);

/// The origin of the codes, and their ranges.
void put_ranges(SectionSink& sink, const ScaNNModel& model);
/// @param model  in: metric of the term; out: the rest
void get_ranges(ByteReader reader, size_t d, ScaNNModel& model);

/// Groups of the lists.
void put_fit(SectionSink& sink, const ModelFit& fit);
/// @param model  out: fit
void get_fit(ByteReader reader, ModelFit& fit);

void put_groups(SectionSink& sink, const ScaNNModel& model);
/// @param model  out: list_groups
void get_groups(ByteReader reader, size_t nlist, ScaNNModel& model);

} // namespace faiss_ext
