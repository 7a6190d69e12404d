import { execFile } from "node:child_process";
import { promisify } from "node:util";
import fc from "fast-check";
import { bytesToHex, hexToBigInt, hexToBytes, numberToBytes } from "viem";
import { generatePrivateKey, privateKeyToAccount } from "viem/accounts";
import { describe, expect, it } from "vitest";
import { loadCrypto } from "../../src/server/crypto.ts";
import { CURVE_CANDIDATES, type CurveCandidate, chooseCurve, slowCurve } from "../../src/server/curves.ts";
import { keccak256, parseSignature, portableSecp256k1, type Secp256k1 } from "../../src/voucher/index.ts";
import { ORDER } from "../voucher/support.ts";

describe("the server's arithmetic", () => {
	it("hashes as the portable one does, each result an array of its own", async () => {
		const fast = await loadCrypto();
		fc.assert(
			fc.property(fc.uint8Array({ maxLength: 300 }), fc.uint8Array({ maxLength: 300 }), (a, b) => {
				const first = fast.keccak256(a);
				const second = fast.keccak256(b);
				expect([first, second]).toEqual([keccak256(a), keccak256(b)]);
			}),
		);
	});
});

/** Those that load here; the native one has no binary for every machine. */
const curves = CURVE_CANDIDATES.flatMap((candidate) => {
	try {
		return [{ curve: candidate.curve, secp256k1: candidate.load() }];
	} catch {
		return [];
	}
});

describe("every curve", () => {
	/** What all of them find. */
	function recovered(compact: Uint8Array, recovery: 0 | 1, digest: Uint8Array): Uint8Array | undefined {
		const expected = portableSecp256k1.recover(compact, recovery, digest);
		for (const { curve, secp256k1 } of curves) {
			const [givenCompact, givenDigest] = [compact.slice(), digest.slice()];
			expect(secp256k1.recover(givenCompact, recovery, givenDigest), curve).toEqual(expected);
			expect([givenCompact, givenDigest], `${curve} changes nothing of what it is given`).toEqual([compact, digest]);
		}
		return expected;
	}
	const bits = fc.constantFrom<0 | 1>(0, 1);
	const bytes = (length: number) => fc.uint8Array({ minLength: length, maxLength: length });

	it("is there to be compared: two of them run anywhere", () => {
		expect(curves.map(({ curve }) => curve)).toEqual(expect.arrayContaining(["wasm", "portable"]));
	});

	it("recovers the key that signed, and with the other bit the same other one", async () => {
		await fc.assert(
			fc.asyncProperty(bytes(32), async (digest) => {
				const account = privateKeyToAccount(generatePrivateKey());
				const signature = await account.sign({ hash: bytesToHex(digest) });
				const { compact, recovery } = parseSignature(signature);
				expect(recovered(compact, recovery, digest)).toEqual(hexToBytes(account.publicKey));
				expect(recovered(compact, recovery === 0 ? 1 : 0, digest)).not.toEqual(hexToBytes(account.publicKey));
			}),
			{ numRuns: 30 },
		);
	});

	it("finds the same of garbage, or finds nothing", () => {
		const found = { keys: 0, none: 0 };
		fc.assert(
			fc.property(bytes(64), bits, bytes(32), (random, bit, digest) => {
				found[recovered(random, bit, digest) === undefined ? "none" : "keys"]++;
			}),
		);
		// Half of all numbers are no point's x.
		expect(found).toEqual({ keys: expect.any(Number), none: expect.any(Number) });
		expect(Math.min(found.keys, found.none)).toBeGreaterThan(0);
	});

	it("agrees where arithmetic is at its edges", () => {
		const word = (value: bigint) => numberToBytes(value, { size: 32 });
		const generator = hexToBigInt("0x79be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798");
		const field = 2n ** 256n - 2n ** 32n - 977n;
		const most = 2n ** 256n - 1n;
		const digest = hexToBytes(`0x${"11".repeat(32)}`);
		const key = (r: bigint, s: bigint, bit: 0 | 1, signed = digest) =>
			recovered(Uint8Array.from([...word(r), ...word(s)]), bit, signed);

		for (const bit of [0, 1] as const) {
			// r or s out of range; also an r that is a point's x only beyond the order.
			for (const r of [0n, ORDER, ORDER + 1n, field - 1n, field, most])
				expect(key(r, 1n, bit), `r ${r}`).toBeUndefined();
			for (const s of [0n, ORDER, most]) expect(key(generator, s, bit), `s ${s}`).toBeUndefined();
			// No point has this x.
			expect(key(5n, 1n, bit)).toBeUndefined();
			// The highest numbers that are in range, and both halves of s: whether it is low was decided before.
			for (const s of [1n, ORDER / 2n, ORDER / 2n + 1n, ORDER - 1n]) expect(key(generator, s, bit)).toHaveLength(65);
			key(ORDER - 1n, 1n, bit);
			// Digests of zero, and beyond the order.
			for (const signed of [word(0n), word(ORDER), word(most)]) key(generator, 9n, bit, signed);
		}
		// A key at infinity: with R = G and s the digest, the two terms are each other's opposite.
		expect(key(generator, BigInt(bytesToHex(digest)), 0)).toBeUndefined();
		expect(key(generator, BigInt(bytesToHex(digest)), 1)).toHaveLength(65);
	});
});

describe("of the curves, a server takes", () => {
	const candidate = (curve: CurveCandidate["curve"], load: CurveCandidate["load"]) => ({ curve, from: curve, load });
	const sound = () => portableSecp256k1;
	const missing = (): Secp256k1 => {
		throw Object.assign(new Error("Cannot find module"), { code: "MODULE_NOT_FOUND" });
	};
	const recovering = (recover: Secp256k1["recover"]) => (): Secp256k1 => ({ recover });

	it("the native one before WebAssembly, and that before JavaScript", () => {
		expect(CURVE_CANDIDATES.map(({ curve }) => curve)).toEqual(["libsecp256k1", "wasm", "portable"]);
		for (let faster = 0; faster < 3; faster++) {
			const candidates = CURVE_CANDIDATES.map(({ curve }, place) => candidate(curve, place < faster ? missing : sound));
			const { curve, passedOver } = chooseCurve(candidates);
			expect(curve).toBe(CURVE_CANDIDATES[faster]?.curve);
			expect(passedOver).toHaveLength(faster);
		}
	});

	it.each<[string, CurveCandidate["load"], RegExp]>([
		["is not installed", missing, /not installed/],
		["does not load", recoveringThrows("wrong ELF class"), /does not load here \(Error: wrong ELF class\)$/],
		["finds nothing", recovering(() => undefined), /broken/],
		["finds a wrong key", recovering(() => new Uint8Array(65).fill(4)), /broken/],
		["does not look at v", recovering((compact, _, digest) => portableSecp256k1.recover(compact, 0, digest)), /broken/],
		[
			"finds a key where there is none",
			recovering((...args) => portableSecp256k1.recover(...args) ?? new Uint8Array(65)),
			/broken/,
		],
		["fails at work", recovering(() => unreachable()), /does not load here \(Error: unreachable/],
	])("none that %s, and says so", (_, load, reason) => {
		const chosen = chooseCurve([candidate("libsecp256k1", load), candidate("wasm", sound)]);
		expect(chosen).toMatchObject({ curve: "wasm", secp256k1: portableSecp256k1 });
		expect(chosen.passedOver).toEqual([{ curve: "libsecp256k1", reason: expect.stringMatching(reason) }]);
		expect(slowCurve(chosen)?.detail).toMatch(/without the native library, by WebAssembly.*4 times/);
		expect(slowCurve(chosen)?.detail).toContain(chosen.passedOver[0]?.reason);
	});

	it("none at all where not even JavaScript is right, and does not start", () => {
		const broken = recovering(() => undefined);
		expect(() => chooseCurve([candidate("wasm", missing), candidate("portable", broken)])).toThrow(
			expect.objectContaining({ code: "CURVE", message: expect.stringMatching(/not installed.*broken/) }),
		);
	});

	it.each([
		["secp256k1", "wasm"],
		["secp256k1&tiny-secp256k1", "portable"],
	])("what is left without %s: %s", async (hidden, curve) => {
		const script = `
			const { loadCrypto } = await import("./src/server/crypto.ts");
			const { curve, passedOver } = await loadCrypto();
			console.log(JSON.stringify({ curve, passedOver }));`;
		const { stdout } = await promisify(execFile)(
			process.execPath,
			[
				"--disable-warning=ExperimentalWarning",
				...["--import", `./bench/lib/without.ts?${hidden}`],
				...["--input-type=module", "--eval", script],
			],
			{ cwd: new URL("../../", import.meta.url) },
		);
		const chosen = JSON.parse(stdout);
		expect(chosen.curve).toBe(curve);
		expect(chosen.passedOver.map(({ reason }: { reason: string }) => reason)).toEqual(
			hidden.split("&").map((name) => `npm ${name} is not installed`),
		);
	});
});

function recoveringThrows(message: string): CurveCandidate["load"] {
	return () => {
		throw new Error(`${message}\nand where it was looked for`);
	};
}

function unreachable(): never {
	throw new Error("unreachable");
}
