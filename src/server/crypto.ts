import { createKeccak } from "hash-wasm";
import type { Keccak256 } from "../voucher/index.ts";
import { type Curve, chooseCurve } from "./curves.ts";

/** What a server verifies signatures with. */
export type Crypto = Curve & Readonly<{ keccak256: Keccak256 }>;

/** The fastest arithmetic that is sound here; `curve` says which one that is, and `passedOver` why it is no faster one. */
export async function loadCrypto(): Promise<Crypto> {
	const hasher = await createKeccak(256);
	return {
		...chooseCurve(),
		// One hasher serves all: each use is over before another can begin.
		keccak256: (message) => hasher.init().update(message).digest("binary"),
	};
}
