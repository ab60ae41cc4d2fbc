// Loaded before Azurite (node -r). Azurite's database searches by the first condition of a query and tests what it finds
// against the others. Azurite names the account or the partition first, which thousands of rows and blobs share, so that
// writing n of them takes n * n steps. With the row's key or the blob's name first each is found at once. And to remove one
// blob it would sort all others anew, as it must only where it removes many.
const Module = require("module");
const load = Module._load;

function narrowed(query) {
  const { RowKey, name } = query;
  return { ...(RowKey && { RowKey }), ...(name && { name }), ...query };
}

Module._load = function (request, ...rest) {
  const loaded = load.call(this, request, ...rest);
  if (request === "lokijs") {
    Module._load = load;
    const collection = loaded.Collection.prototype;
    const { findOne, findAndRemove } = collection;
    collection.findOne = function (query) {
      return findOne.call(this, narrowed(query));
    };
    collection.findAndRemove = function (query) {
      const found = this.find(narrowed(query));
      if (found.length > 1) {
        findAndRemove.call(this, query);
      } else {
        found.forEach((document) => this.remove(document));
      }
    };
  }
  return loaded;
};
