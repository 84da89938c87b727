/* make_seeds DIRECTORY: inputs for the fuzzers to start from, a folder for
 * each target: small indexes of every kind, and strings. */

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <memory>

#include <faiss/impl/io.h>

#include <faiss_ext/IndexIVFScaNN.h>
#include <faiss_ext/index_factory.h>
#include <faiss_ext/index_io.h>
#include <knowhere_plugin/index_factory.h>

#include "fixtures/random_rows.h"
#include "targets.h"

namespace {

namespace fs = std::filesystem;

/// Faiss' OPQ needs 256 rows to train with
constexpr size_t kD = 6, kRows = 40, kTrainingRows = 256, kFar = 2;

void write(const fs::path& path, std::span<const uint8_t> bytes) {
    fs::create_directories(path.parent_path());
    std::ofstream out(path, std::ios::binary);
    out.write(
            reinterpret_cast<const char*>(bytes.data()),
            std::streamsize(bytes.size()));
    if (!out.flush()) {
        throw std::runtime_error("cannot write " + path.string());
    }
}

void write(const fs::path& path, const std::string& text) {
    write(path,
          std::span(
                  reinterpret_cast<const uint8_t*>(text.data()), text.size()));
}

std::vector<float> rows(size_t n, size_t d) {
    return random_rows::normal(n * d, 7);
}

void index_files(const fs::path& folder) {
    constexpr auto L2 = faiss::METRIC_L2, IP = faiss::METRIC_INNER_PRODUCT;
    using faiss::DirectMap;
    struct Kind {
        const char* description;
        faiss::MetricType metric;
        DirectMap::Type map = DirectMap::NoMap;
        bool trained = true;
    };
    const Kind kinds[] = {
            {"IVF3,ScaNN", L2},
            {"IVF3,ScaNN", IP, DirectMap::Array},
            {"IVF3,ScaNN,SQ8", L2, DirectMap::Array},
            {"IVF3,ScaNN,SQ8", IP, DirectMap::Hashtable},
            {"IVF3,ScaNN,SQfp16", L2},
            {"IVF3,ScaNN,SQbf16", IP, DirectMap::Hashtable},
            {"IVF3,ScaNN,RFlat", L2, DirectMap::Hashtable},
            {"IVF3,ScaNN,SQ8,RFlat", IP, DirectMap::Array},
            {"IVF3,ScaNN(normalize=1)", IP},
            {"IVF3,ScaNN(normalize=1,allow_zero=1),SQ8,RFlat", IP},
            {"IVF3,ScaNN(soar_lambda=1.5)", L2, DirectMap::Hashtable},
            {"IVF3,ScaNN(soar_lambda=1),SQ8,RFlat", L2},
            {"IVF3,ScaNN(soar_lambda=1,eta=3),RFlat", IP, DirectMap::Array},
            {"IVF3,ScaNN5x4(rotation=none),RFlat", L2},
            {"IVF3,ScaNN(rotation=pca,sub_dim=3)", IP},
            {"IVF3_HNSW4,ScaNN,SQ8", L2, DirectMap::Hashtable},
            {"IVF3_HNSW4,ScaNN(soar_lambda=1)", IP},
            {"IVF1,ScaNN,RFlat", L2},
            {"IDMap2,IVF3,ScaNN,RFlat", L2},
            {"IDMap,IVF3,ScaNN(soar_lambda=1),SQ8", IP},
            {"IDMap2,IVF3,ScaNN(soar_lambda=1),SQ8,RFlat",
             L2,
             DirectMap::Hashtable},
            {"PCA4,IVF3,ScaNN,RFlat", L2, DirectMap::Hashtable},
            {"OPQ2_4,IVF3,ScaNN,RFlat", IP},
            {"IDMap2,L2norm,IVF3,ScaNN,SQ8", IP},
            {"PCAR4,IVF3,ScaNN", L2},
            {"IDMap2,PCA4,IVF3,ScaNN", L2},
            {"IVF3,ScaNN,RFlat", L2, DirectMap::Array, false},
            {"IDMap2,PCA4,IVF3,ScaNN", L2, DirectMap::NoMap, false},
    };
    int number = 0;
    for (const Kind& kind : kinds) {
        std::unique_ptr<faiss::Index> index(faiss_ext::index_factory(
                int(kD), kind.description, kind.metric));
        auto scann = faiss_ext::find_scann(index.get());
        if (kind.trained) {
            std::vector<float> x = rows(kTrainingRows, kD);
            index->train(int64_t(kTrainingRows), x.data());
            x.resize(kRows * kD);
            scann->set_direct_map_type(kind.map);
            std::fill(x.end() - kFar * kD, x.end(), 300.f); // kept apart
            std::vector<int64_t> ids(kRows);
            for (size_t i = 0; i < kRows; i++) {
                ids[i] = int64_t(2 * i + 3);
            }
            bool own = kind.map != faiss::DirectMap::Array;
            index->add_with_ids(
                    int64_t(kRows), x.data(), own ? ids.data() : nullptr);
            scann->nprobe = 2;
        }
        faiss::VectorIOWriter writer;
        faiss_ext::write_index(index.get(), &writer);
        write(folder / std::to_string(number++), writer.data);
    }
}

void node_blobs(const fs::path& folder) {
    using namespace knowhere_plugin;
    std::vector<float> x = rows(kRows, kD);
    for (const auto& [type, features] : IndexFactory::Instance().Types()) {
        for (const char* metric : {"L2", "IP", "COSINE"}) {
            for (int64_t n : {int64_t(3), int64_t(kRows)}) {
                NodePtr node = IndexFactory::Instance().Create(type).value();
                Config config = {{"metric_type", metric}};
                if (type == "HNSW") {
                    config["M"] = "4";
                } else if (type != "FLAT") {
                    config["nlist"] = "3";
                }
                if (type == "IVF_PQ") {
                    config["m"] = "3";
                    config["nbits"] = n == 3 ? "8" : "4";
                }
                Status status = node->Build({n, kD, x.data()}, config);
                auto blob = node->Serialize();
                if (!status.ok() || !blob.ok()) {
                    throw std::runtime_error(type + ": " + status.message);
                }
                write(folder / (type + metric + std::to_string(n)),
                      blob.value());
            }
        }
    }
}

void factory_strings(const fs::path& folder) {
    const char* texts[] = {
            "ScaNN",
            "IVF4,ScaNN",
            "IVF4,ScaNN4x4,SQ8,RFlat",
            "IDMap2,PCA4,IVF4_HNSW8,ScaNN(eta=2,sub_dim=3),SQfp16",
            "IDMap,OPQ2_4,IVF4(HNSW8),SCANN(soar_lambda=1.5,seed=3),SQbf16",
            "L2norm,ScaNN(bytes_per_vector=20)",
            "PCAR4,IVF,ScaNN(rotation=balanced,score_aware_centroids=1)",
            "IVF2(IVF2,Flat),ScaNN(threshold=0.2,eta_formula=limit)",
            "ITQ4,IVF2,ScaNN(rotation=pca)",
            "RR8,IVF2,ScaNN(rotation=random,rotation=none)",
            "Pad8,IVF2_NSG4,ScaNN(normalize=1,allow_zero=1),RFlat",
            "IVF4,PQ2x4fsr,RFlat",
            "IVF4,PQ2x4fs",
            "IMI2x2,ScaNN",
            "HNSW8,Flat",
            "LSH",
            "IVF4_FSQ,ScaNN",
    };
    int number = 0;
    for (const char* text : texts) {
        for (char metric : {0, 1}) {
            write(folder / std::to_string(number++),
                  std::string{'\x08', metric} + text);
        }
    }
}

void node_configs(const fs::path& folder) {
    const char* texts[] = {
            "SCANN\nmetric_type=L2\nnlist=4\n--\nk=5\nnprobe=2\nradius=3\n",
            "SCANN\nmetric_type=COSINE\nsub_dim=3\nrefine_type=int8\n"
            "soar_lambda=1\n--\nk=7\nreorder_k=20\nensure_topk_full=True\n",
            "SCANN\nmetric_type=\"IP\"\neta=2\nwith_raw_data=false\n"
            "num_build_thread=1\n--\nk=4\nradius=0.1\nrange_filter=9\n",
            "SCANN\nanisotropic_threshold=0.2\ntarget_recall=0.9\n--\nk=1\n",
            "FLAT\nmetric_type=IP\ndim=4\n--\nk=3\nradius=-1e30\n",
            "IVF_FLAT\nnlist=3\nmetric_type=COSINE\n--\nnprobe=3\nk=2\n",
            "IVF_PQ\nnlist=2\nm=2\nnbits=4\n--\nnprobe=9\nradius=1e9\n",
            "HNSW\nM=4\nefConstruction=20\n--\nk=3\nef=16\n"
            "retain_iterator_order=true\nradius=2\n",
    };
    int number = 0;
    for (const char* text : texts) {
        write(folder / std::to_string(number++), text);
    }
}

} // namespace

int main(int argc, char** argv) {
    if (argc != 2) {
        std::cerr << "usage: make_seeds DIRECTORY\n";
        return 2;
    }
    try {
        fs::path root = argv[1];
        index_files(root / "index_file");
        node_blobs(root / "node_blob");
        factory_strings(root / "factory_string");
        node_configs(root / "node_config");
    } catch (const std::exception& error) {
        std::cerr << "make_seeds: " << error.what() << "\n";
        return 1;
    }
}
