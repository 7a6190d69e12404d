/**
 * Preload: optional npm packages are not found, as on a machine where they were not installed or have no binary. What runs
 * after it is the server as it is then, no setting of its own.
 *
 * Which ones, the query says: `--import ./bench/lib/without.ts?secp256k1` leaves WebAssembly to verify signatures,
 * `--import "./bench/lib/without.ts?secp256k1&tiny-secp256k1"` JavaScript.
 */
import { createRequire } from "node:module";

type Resolver = { _resolveFilename(request: string, ...rest: unknown[]): string };

const hidden = [...new URL(import.meta.url).searchParams.keys()];
const loader: Resolver = createRequire(import.meta.url)("node:module");
const resolve = loader._resolveFilename;
loader._resolveFilename = function (request, ...rest) {
	if (!hidden.some((name) => request === name || request.startsWith(`${name}/`)))
		return resolve.call(this, request, ...rest);
	throw Object.assign(new Error(`Cannot find module '${request}'`), { code: "MODULE_NOT_FOUND" });
};
