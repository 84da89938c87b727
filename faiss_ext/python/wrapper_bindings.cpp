/* IndexIDMap, IndexIDMap2, IndexPreTransform: around a copy of an empty index.
 *
 * Faiss' own borrow the index, and two owners may then change it at once. */

#include <memory>
#include <string>

#include <faiss/IndexIDMap.h>
#include <faiss/IndexPreTransform.h>
#include <faiss/impl/FaissAssert.h>
#include <faiss/index_factory.h>

#include <faiss_ext/index_io.h>
#include <faiss_ext/io/clone_quantizer.h>
#include <faiss_ext/wrappers/clone.h>
#include <faiss_ext/wrappers/faiss_parts.h>
#include <faiss_ext/wrappers/faiss_training.h>

#include "array_arguments.h"
#include "bindings.h"
#include "docstrings.h"
#include "wrapped_index.h"

namespace faiss_ext::python {

namespace {

using HandlePointer = std::shared_ptr<IndexHandle>;
using OwnedIndex = std::unique_ptr<faiss::Index>;

/// Of any kind of index.
OwnedIndex copy_of(const IndexHandle& self) {
    FAISS_THROW_IF_NOT_FMT(
            self.index()->ntotal == 0,
            "the index holds %lld vectors (allowed: an empty one, of which the "
            "new index has a copy)",
            static_cast<long long>(self.index()->ntotal));
    return self.scann() != nullptr
                   ? OwnedIndex(faiss_ext::clone_index(self.index()))
                   : clone_quantizer(*self.index());
}

template <class Map>
HandlePointer with_ids(const IndexHandle& self) {
    return self.read(ErrorOrigin::Caller, [&] {
        FAISS_THROW_IF_NOT_FMT(
                layers(self.index()).find("IDMap") == std::string::npos,
                "the index maps ids already: it is %s",
                layers(self.index()).c_str());
        OwnedIndex inner = copy_of(self);
        auto map = std::make_unique<Map>(inner.get());
        (void)inner.release();
        map->own_fields = true;
        OwnedIndex root = std::move(map);
        make_silent(root);
        return std::make_shared<IndexHandle>(std::move(root));
    });
}

/// @param transform  as in a factory string: "PCA64"
HandlePointer with_transform(
        int64_t d,
        const std::string& transform,
        const IndexHandle& self) {
    checked_integer("d", d, 1, 65536);
    return self.read(ErrorOrigin::Caller, [&] {
        const faiss::Index& below = *self.index();
        const std::string description = transform + ",Flat";
        check_faiss_description(description, int(d), below.metric_type);
        OwnedIndex root(faiss::index_factory(
                int(d), description.c_str(), below.metric_type));
        auto chain = dynamic_cast<faiss::IndexPreTransform*>(root.get());
        FAISS_THROW_IF_NOT_FMT(
                chain != nullptr,
                "'%s' is no transform (allowed: such as PCA64, OPQ16, L2norm)",
                transform.c_str());
        FAISS_THROW_IF_NOT_FMT(
                chain->index->d == below.d,
                "the transform makes vectors of %d dimensions; the index has "
                "d = %d",
                int(chain->index->d),
                int(below.d));
        replace_leaf(root, copy_of(self));
        chain->is_trained = chain->index->is_trained;
        for (const faiss::VectorTransform* part : chain->chain) {
            chain->is_trained = chain->is_trained && part->is_trained;
        }
        make_silent(root);
        return std::make_shared<IndexHandle>(std::move(root));
    });
}

} // namespace

void bind_wrappers(py::module_& module) {
    using py::arg;
    module.def(
            "IndexIDMap",
            with_ids<faiss::IndexIDMap>,
            arg("index"),
            doc::index_id_map);
    module.def(
            "IndexIDMap2",
            with_ids<faiss::IndexIDMap2>,
            arg("index"),
            doc::index_id_map2);
    // IndexPreTransform of the package calls it
    module.def(
            "_index_pre_transform",
            with_transform,
            arg("d"),
            arg("transform"),
            arg("index"),
            "_index_pre_transform(d, transform, index)\n--\n\n"
            "Of IndexPreTransform.");
}

} // namespace faiss_ext::python
