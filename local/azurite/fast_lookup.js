// Loaded before Azurite (node -r). Azurite's database searches by the first condition of a query and tests what it finds
// against the others. Azurite names the account or the partition first, which thousands of rows and blobs share, so that
// writing n of them takes n * n steps. With the row's key or the blob's name first each is found at once.
const Module = require("module");
const load = Module._load;

Module._load = function (request, ...rest) {
  const loaded = load.call(this, request, ...rest);
  if (request === "lokijs") {
    Module._load = load;
    const { findOne } = loaded.Collection.prototype;
    loaded.Collection.prototype.findOne = function (query) {
      const { RowKey, name } = query;
      return findOne.call(this, { ...(RowKey && { RowKey }), ...(name && { name }), ...query });
    };
  }
  return loaded;
};
