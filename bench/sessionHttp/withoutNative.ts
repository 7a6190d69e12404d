/**
 * Preload: optional npm package `secp256k1` is not found, as on a machine where it was not installed or has no binary. What
 * runs after it is the server as it is then, no setting of its own.
 */
import { createRequire } from "node:module";

type Resolver = { _resolveFilename(request: string, ...rest: unknown[]): string };

const loader: Resolver = createRequire(import.meta.url)("node:module");
const resolve = loader._resolveFilename;
loader._resolveFilename = function (request, ...rest) {
	if (request !== "secp256k1" && !request.startsWith("secp256k1/")) return resolve.call(this, request, ...rest);
	throw Object.assign(new Error(`Cannot find module '${request}'`), { code: "MODULE_NOT_FOUND" });
};
