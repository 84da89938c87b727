#include <faiss_ext/io/clone_quantizer.h>

#include <faiss/IndexFlat.h>
#include <faiss/clone_index.h>
#include <faiss/impl/io.h>
#include <faiss/index_io.h>

namespace faiss_ext {

std::unique_ptr<faiss::Index> clone_quantizer(const faiss::Index& quantizer) {
    if (auto flat = dynamic_cast<const faiss::IndexFlat*>(&quantizer)) {
        return std::unique_ptr<faiss::Index>(faiss::clone_index(flat));
    }
    faiss::VectorIOWriter writer;
    faiss::write_index(&quantizer, &writer);
    faiss::VectorIOReader reader;
    reader.data = std::move(writer.data);
    return std::unique_ptr<faiss::Index>(faiss::read_index(&reader));
}

} // namespace faiss_ext
