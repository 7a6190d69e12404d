/** libsecp256k1 and a WebAssembly Keccak in Node, where they load. */
import { createRequire } from "node:module";
import { createKeccak } from "hash-wasm";
import { bytesToHex } from "viem";
import { type Keccak256, KNOWN_SIGNATURE, keccak256 as portableKeccak256 } from "../../voucher/index.ts";

/** Signs 32 bytes with a private key: deterministic (RFC 6979), low-s. */
export type NativeCurve = Readonly<{
	ecdsaSign(digest: Uint8Array, key: Uint8Array): Readonly<{ signature: Uint8Array; recid: number }>;
}>;

let found: Readonly<{ curve: NativeCurve | undefined }> | undefined;

/** The library of npm `secp256k1`, an optional dependency; `undefined` where there is none that signs as it should. */
export function nativeCurve(): NativeCurve | undefined {
	// Not the package itself: it falls back to a slow implementation without a word.
	found ??= { curve: soundCurve(() => createRequire(import.meta.url)("secp256k1/bindings.js")) };
	return found.curve;
}

/** What `load` finds, if it signs what is known. */
export function soundCurve(load: () => NativeCurve): NativeCurve | undefined {
	try {
		const curve = load();
		const ones = new Uint8Array(32).fill(1);
		const { signature, recid } = curve.ecdsaSign(ones, ones);
		return bytesToHex(signature) === KNOWN_SIGNATURE && recid === 0 ? curve : undefined;
	} catch {
		return undefined;
	}
}

let hash = portableKeccak256;
let loading: Promise<void> | undefined;

/** Keccak-256: by JavaScript at first, by WebAssembly as soon as that is loaded. The hashes are the same. */
export const nodeKeccak256: Keccak256 = (message) => hash(message);

/** Begins to load what is faster; what hashes meanwhile does not wait for it. */
export function loadKeccak256(): Promise<void> {
	loading ??= createKeccak(256).then(
		(hasher) => {
			// One hasher serves all: each use is over before another can begin.
			hash = (message) => hasher.init().update(message).digest("binary");
		},
		() => undefined,
	);
	return loading;
}
