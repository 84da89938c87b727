/*
 * Trees of wrappers (IndexIDMap, IndexIDMap2, IndexPreTransform) with a ScaNN
 * index as their leaf: walked, copied, the leaf exchanged. Used by clone,
 * index_factory, index_io and export_faiss; not installed.
 */

#pragma once

#include <memory>

#include <faiss/Index.h>

namespace faiss_ext {

class IndexIVFScaNN;

/// The place where a wrapper keeps its index, or nullptr if it is none.
faiss::Index** wrapped_index(faiss::Index* index);
const faiss::Index* const* wrapped_index(const faiss::Index* index);

/** Puts another leaf below the wrappers of `root` and deletes the old one.
 * The wrappers must own what they wrap. */
void replace_leaf(
        std::unique_ptr<faiss::Index>& root,
        std::unique_ptr<faiss::Index> leaf);

/** The wrappers of `root`, copied, around another leaf.
 *
 * Not done by faiss::Cloner: it loses what it has built when a part cannot be
 * copied, and 1.7.3 does not copy all transforms.
 *
 * @param with_ids  false: they come empty, IndexIDMaps without ids
 */
std::unique_ptr<faiss::Index> copy_wrappers(
        const faiss::Index* root,
        std::unique_ptr<faiss::Index> leaf,
        bool with_ids);

/// The leaf alone, with its quantizer.
std::unique_ptr<IndexIVFScaNN> clone_scann(const IndexIVFScaNN& index);

/// What train and add do not make: search defaults, flags, counters.
void copy_settings(const IndexIVFScaNN& from, IndexIVFScaNN& to);

} // namespace faiss_ext
