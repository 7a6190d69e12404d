import { createRequire } from "node:module";
import { portableSecp256k1, type Secp256k1 } from "../voucher/index.ts";

/** Which curve arithmetic a server runs on. */
export type CurveBackend = Readonly<{ name: "libsecp256k1" | "portable"; secp256k1: Secp256k1 }>;

/**
 * libsecp256k1 through npm `secp256k1` where its binary loads, portable JavaScript elsewhere. The package itself falls
 * back to a slow implementation without a word, so its binding is asked for directly.
 */
export function loadSecp256k1(): CurveBackend {
	try {
		const native: NativeSecp256k1 = createRequire(import.meta.url)("secp256k1/bindings.js");
		return { name: "libsecp256k1", secp256k1: fromNative(native) };
	} catch {
		return { name: "portable", secp256k1: portableSecp256k1 };
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
