/* The bytes of a node: loaded, then every operation. A node answers with a
 * Status, so nothing may be thrown. */

#include <map>
#include <random>

#include <knowhere_plugin/index_factory.h>
#include <zlib.h>

#include "sealing.h"

namespace fuzz {

namespace {

using namespace knowhere_plugin;

constexpr int64_t kMostDimensions = 64, kMostRows = 4096;
constexpr int64_t kQueries = 3, kNew = 2;
constexpr int kMostSteps = 200;

class Operations {
 public:
    Operations(IndexNode& node, uint32_t seed)
            : node_(node), random_(seed), d_(node.Dim()) {
        for (float& value : x_) {
            value = float(int(random_() % 2001) - 1000) / 250;
        }
        for (uint8_t& byte : bits_) {
            byte = uint8_t(random_());
        }
    }

    void all() {
        node_.Size();
        search({{"k", "3"}});
        search({{"k", "1"}, {"nprobe", "1000"}});
        search({{"k", "60"}, {"ef", "64"}});
        search({{"k", "4"}, {"ensure_topk_full", "true"}});
        search({{"k", "2"}, {"reorder_k", "20"}});
        for (const char* radius : {"2", "1e30", "-1e30"}) {
            node_.RangeSearch(queries(), {{"radius", radius}});
            node_.RangeSearch(queries(), {{"radius", radius}}, filter());
        }
        std::vector<int64_t> ids = {
                0, int64_t(random_() % 64), node_.Count() - 1};
        DataSet wanted;
        wanted.rows = int64_t(ids.size());
        wanted.ids = ids.data();
        node_.GetVectorByIds(wanted);
        wanted.rows = 1;
        node_.GetVectorByIds(wanted);
        iterate();
        node_.Add({kNew, d_, x_.data()}, {});
        search({{"k", "5"}});
        wanted.rows = 1;
        ids[0] = node_.Count() - 1;
        node_.GetVectorByIds(wanted);
    }

 private:
    DataSet queries() const {
        return {kQueries, d_, x_.data()};
    }
    BitsetView filter() const {
        return {bits_.data(),
                size_t(node_.Count()) < bits_.size() * 8 ? size_t(node_.Count())
                                                         : bits_.size() * 8};
    }

    /// Keys that a type does not know are refused: then without them.
    void search(const Config& config) {
        if (!node_.Search(queries(), config).ok()) {
            node_.Search(queries(), {{"k", config.at("k")}});
        }
        node_.Search(queries(), config, filter());
    }

    void iterate() {
        for (const char* order : {"false", "true"}) {
            auto made = node_.AnnIterator(
                    {1, d_, x_.data()}, {{"retain_iterator_order", order}});
            if (!made.ok()) {
                continue;
            }
            for (auto& iterator : made.value()) {
                for (int i = 0; i < kMostSteps && iterator->Next().ok(); i++) {
                }
            }
        }
    }

    IndexNode& node_;
    std::minstd_rand random_;
    int64_t d_;
    std::vector<float> x_ =
            std::vector<float>(kQueries * size_t(kMostDimensions));
    std::vector<uint8_t> bits_ = std::vector<uint8_t>(16);
};

} // namespace

void node_blob(Bytes input) {
    node_blob(input, uint32_t(crc32(0, input.data(), uInt(input.size()))));
}

void node_blob(Bytes input, uint32_t way) {
    Buffer bytes = sealed(input);
    MemoryLimit limit(bytes.size());
    auto made = IndexFactory::Instance().Create(type_of_blob(bytes));
    if (!made.ok()) {
        return;
    }
    IndexNode& node = *made.value();
    if (!node.Deserialize(bytes).ok() || node.Dim() > kMostDimensions ||
        node.Count() > kMostRows) {
        return;
    }
    auto again = node.Serialize();
    if (!again.ok()) {
        throw BrokenPromise(
                "what was loaded cannot be saved: " + again.status().message);
    }
    NodePtr copy = IndexFactory::Instance().Create(node.Type()).value();
    Status status = copy->Deserialize(again.value());
    if (!status.ok()) {
        throw BrokenPromise(
                "what was loaded and saved does not load: " + status.message);
    }
    if (copy->Count() != node.Count()) {
        throw BrokenPromise("a saved node has another number of rows");
    }
    Operations(node, way).all();
}

} // namespace fuzz
