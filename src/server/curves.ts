/** What there is to verify signatures with, the fastest first, and which of it is sound on this machine. */
import { createRequire } from "node:module";
import { bytesToHex, hexToBytes } from "viem";
import { KNOWN_SIGNATURE, portableSecp256k1, type Secp256k1 } from "../voucher/index.ts";
import { describeError } from "./describeError.ts";

/** libsecp256k1 as a native addon, the same library as WebAssembly, or JavaScript. */
export type CurveName = "libsecp256k1" | "wasm" | "portable";

/** One way to verify signatures. */
export type CurveCandidate = Readonly<{
	curve: CurveName;
	/** The npm package it comes from. */
	from: string;
	/** Throws where it can't be had. */
	load(): Secp256k1;
}>;

/** What is used, and what would have been faster but is not. */
export type Curve = Readonly<{ curve: CurveName; secp256k1: Secp256k1; passedOver: readonly PassedOver[] }>;

export type PassedOver = Readonly<{ curve: CurveName; reason: string }>;

/** Not even the JavaScript finds the known keys: nothing on this machine may decide about money. */
export class CurveError extends Error {
	override readonly name = "CurveError";
	readonly code = "CURVE";
}

/**
 * Of microseconds of processor time, the native library takes about 40 for a signature on the machine of the goals; these are
 * how many times as long the others take (`docs/performance.md`).
 */
const TIMES_AS_LONG: Readonly<Record<CurveName, number>> = { libsecp256k1: 1, wasm: 4, portable: 25 };

const require = createRequire(import.meta.url);

/** What Sluice brings, the fastest first. */
export const CURVE_CANDIDATES: readonly CurveCandidate[] = [
	// Not the package itself: it falls back to a slow implementation without a word.
	{ curve: "libsecp256k1", from: "secp256k1", load: () => fromNative(require("secp256k1/bindings.js")) },
	{ curve: "wasm", from: "tiny-secp256k1", load: () => fromWasm(require("tiny-secp256k1")) },
	{ curve: "portable", from: "@noble/curves", load: () => portableSecp256k1 },
];

/**
 * The first candidate that loads and is sound.
 *
 * @param candidates the fastest first
 * @throws CurveError when there is none
 */
export function chooseCurve(candidates: readonly CurveCandidate[] = CURVE_CANDIDATES): Curve {
	const passedOver: PassedOver[] = [];
	for (const { curve, from, load } of candidates) {
		try {
			const secp256k1 = load();
			if (isSound(secp256k1)) return { curve, secp256k1, passedOver };
			passedOver.push({ curve, reason: `npm ${from} is broken here: of a known signature it recovers another key` });
		} catch (error) {
			passedOver.push({ curve, reason: `npm ${from} ${whyNot(error)}` });
		}
	}
	const reasons = passedOver.map(({ reason }) => reason).join("; ");
	throw new CurveError(
		`nothing here verifies signatures as it should (${reasons}); install Sluice's dependencies anew`,
	);
}

/** Why signatures take longer than they need to, and what to do; undefined where they don't. */
export function slowCurve({ curve, passedOver }: Omit<Curve, "secp256k1">): SlowCurve | undefined {
	if (curve === "libsecp256k1") return undefined;
	const reasons = passedOver.map(({ reason }) => reason).join("; ");
	const by = curve === "wasm" ? "by WebAssembly" : "by JavaScript";
	return {
		detail: `signatures are verified without the native library, ${by}, which takes about ${TIMES_AS_LONG[curve]} times as long: ${reasons}`,
		hint: "install optional package secp256k1 anew, with its build scripts, for this Node and platform",
	};
}

export type SlowCurve = Readonly<{ detail: string; hint: string }>;

/** The digest of the known signature, its bytes, and the two keys that it fits. */
const ONES = new Uint8Array(32).fill(1);
const KNOWN = hexToBytes(KNOWN_SIGNATURE);
const KNOWN_KEYS = {
	0: "0x041b84c5567b126440995d3ed5aaba0565d71e1834604819ff9c17f5e9d5dd078f70beaf8f588b541507fed6a642c5ab42dfdf8120a7f639de5122d47a69a8e8d1",
	1: "0x0400fddea1be2280643dd850510190b1ccc3ee94bb8c35e493025e1f8efb43d2048d885048bb13e01bf0160f025b443f7432397f83fb4450d8e8fc6a3d94a8807c",
} as const;
/** No point of the curve has x = 5. */
const NO_SIGNATURE = KNOWN.map((byte, index) => (index < 31 ? 0 : index === 31 ? 5 : byte));

/**
 * Whether it finds what is known. A build that is wrong for its machine gives other keys, and with them would refuse who
 * paid, or worse. With both bits, for who ignores `v` accepts what the escrow does not.
 */
function isSound({ recover }: Secp256k1): boolean {
	const finds = (bit: 0 | 1) => bytesToHex(recover(KNOWN, bit, ONES) ?? new Uint8Array()) === KNOWN_KEYS[bit];
	return finds(0) && finds(1) && recover(NO_SIGNATURE, 0, ONES) === undefined;
}

function whyNot(error: unknown): string {
	if ((error as NodeJS.ErrnoException | undefined)?.code === "MODULE_NOT_FOUND") return "is not installed";
	return `does not load here (${describeError(error).split("\n", 1)[0]})`;
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

type WasmSecp256k1 = Readonly<{
	recover(digest: Uint8Array, signature: Uint8Array, recovery: number, compressed: boolean): Uint8Array | null;
}>;

function fromWasm(wasm: WasmSecp256k1): Secp256k1 {
	return {
		recover(compact, recovery, digest) {
			try {
				// It throws for an r or s that can't be, and has null for a key at infinity.
				return wasm.recover(digest, compact, recovery, false) ?? undefined;
			} catch {
				return undefined;
			}
		},
	};
}
