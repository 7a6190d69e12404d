import { createRequire } from "node:module";
import { createKeccak } from "hash-wasm";
import { type Keccak256, portableSecp256k1, type Secp256k1 } from "../voucher/index.ts";

/** What a server verifies signatures with. */
export type Crypto = Readonly<{ curve: "libsecp256k1" | "portable"; secp256k1: Secp256k1; keccak256: Keccak256 }>;

/** The fastest arithmetic that runs here; `curve` says which one that is. */
export async function loadCrypto(): Promise<Crypto> {
	const hasher = await createKeccak(256);
	return {
		...loadSecp256k1(),
		// One hasher serves all: each use is over before another can begin.
		keccak256: (message) => hasher.init().update(message).digest("binary"),
	};
}

/**
 * libsecp256k1 through npm `secp256k1` where its binary loads, portable JavaScript elsewhere. The package itself falls
 * back to a slow implementation without a word, so its binding is asked for directly.
 */
function loadSecp256k1(): Pick<Crypto, "curve" | "secp256k1"> {
	try {
		const native: NativeSecp256k1 = createRequire(import.meta.url)("secp256k1/bindings.js");
		return { curve: "libsecp256k1", secp256k1: fromNative(native) };
	} catch {
		return { curve: "portable", secp256k1: portableSecp256k1 };
	}
}

type NativeSecp256k1 = Readonly<{
	ecdsaRecover(signature: Uint8Array, recovery: number, digest: Uint8Array, compressed: boolean): Uint8Array;
}>;

function fromNative(native: NativeSecp256k1): Secp256k1 {
	return {
		recover(compact, recovery, digest) {
			try {
				return native.ecdsaRecover(compact, recovery, digest, false);
			} catch {
				return undefined;
			}
		},
	};
}
