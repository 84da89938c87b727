/* Stands for another Faiss: its IndexIVF has one virtual function. Alone it
 * does nothing; the preloaded library must see it and stay out. */

namespace faiss {

struct Index {
    virtual ~Index();
};
struct IndexIVF : Index {
    ~IndexIVF() override;
};

Index::~Index() = default;
IndexIVF::~IndexIVF() = default;

} // namespace faiss

int main() {
    faiss::IndexIVF index;
    return 0;
}
