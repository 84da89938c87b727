/*
 * Trees of wrappers (IndexIDMap, IndexIDMap2, IndexPreTransform) around a ScaNN
 * index, their leaf: finding it, copying and replacing it. Used by clone,
 * index_factory, index_io and export_faiss; not installed.
 */

#pragma once

#include <memory>

#include <faiss/Index.h>

namespace faiss_ext {

class IndexIVFScaNN;

/// The pointer of a wrapper to its index; nullptr if `index` is no wrapper.
faiss::Index** wrapped_index(faiss::Index* index);
const faiss::Index* const* wrapped_index(const faiss::Index* index);

/// What is below all wrappers: `index` itself if it is none.
faiss::Index* leaf_index(faiss::Index* index);
const faiss::Index* leaf_index(const faiss::Index* index);

/** Replaces the leaf below the wrappers of `root` and deletes the old one. The
 * wrappers must own what they wrap. */
void replace_leaf(
        std::unique_ptr<faiss::Index>& root,
        std::unique_ptr<faiss::Index> leaf);

/** A copy of the wrappers of `root` around another leaf.
 *
 * Not faiss::Cloner: it leaks what it has built when a part cannot be copied,
 * and that of 1.7.3 does not copy all transforms.
 *
 * @param with_ids  false: the copied IndexIDMaps have no ids
 */
std::unique_ptr<faiss::Index> copy_wrappers(
        const faiss::Index* root,
        std::unique_ptr<faiss::Index> leaf,
        bool with_ids);

/// The leaf alone, with its quantizer.
std::unique_ptr<IndexIVFScaNN> clone_scann(const IndexIVFScaNN& index);

/// Copies what train and add do not set: search defaults, flags, counters.
void copy_settings(const IndexIVFScaNN& from, IndexIVFScaNN& to);

} // namespace faiss_ext
