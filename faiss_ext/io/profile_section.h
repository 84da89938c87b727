/*
 * The section "profile": what calibrate() measured (ScaNNProfile).
 *
 *   uint64 rows (0: never calibrated, and nothing follows), uint32 k, targets,
 *   probes, candidates, columns of scan_recall and of refine_recall (0: none);
 *   then the tables, in the order of the struct; float lowest_score,
 *   highest_score
 */

#pragma once

#include <faiss_ext/io/file_sections.h>
#include <faiss_ext/scann_options.h>

namespace faiss_ext {

void put_profile(SectionSink& sink, const ScaNNProfile& profile);
/// Checks all that searches rely on.
ScaNNProfile get_profile(ByteReader reader, uint64_t nlist);

} // namespace faiss_ext
