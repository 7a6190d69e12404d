import { createHash } from "node:crypto";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { contentDigest, matchesContentDigest } from "../../src/protocol/index.ts";

const RUNS = 10_000;
const bytes = fc.uint8Array({ maxLength: 64 });
const utf8 = (text: string) => new TextEncoder().encode(text);

/** By Node's own hashes. */
const reference = (algorithm: "sha256" | "sha512", body: Uint8Array) =>
	createHash(algorithm).update(body).digest("base64");

const BODY = utf8('{"hello": "world"}\n');
const SHA_256 = `sha-256=:${reference("sha256", BODY)}:`;
const SHA_512 = `sha-512=:${reference("sha512", BODY)}:`;
const OF_ANOTHER = `:${reference("sha256", utf8("another"))}:`;

describe("contentDigest", () => {
	it("is the example of RFC 9530, Appendix B", () => {
		expect(contentDigest(BODY)).toBe("sha-256=:RK/0qy18MlBSVnWgjwz6lZEWjP/lF5HF9bvEF8FabDg=:");
	});

	it("is of the empty content where there is no body", () => {
		expect(contentDigest(new Uint8Array())).toBe("sha-256=:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=:");
	});

	it("is SHA-256 in base64 between colons, and matches its body alone", () => {
		fc.assert(
			fc.property(bytes, bytes, (body, other) => {
				const digest = contentDigest(body);
				expect(digest).toBe(`sha-256=:${reference("sha256", body)}:`);
				expect(matchesContentDigest(digest, body)).toBe(true);
				expect(matchesContentDigest(digest, other)).toBe(Buffer.compare(body, other) === 0);
			}),
			{ numRuns: RUNS },
		);
	});
});

describe("matchesContentDigest", () => {
	it.each([
		["sha-256", SHA_256],
		["sha-512", SHA_512],
		["both", `${SHA_256}, ${SHA_512}`],
		["both with white space", `  ${SHA_512}\t , ${SHA_256} `],
		["one beside an algorithm nobody knows", `crc-x=:AAAA:,${SHA_256}`],
		["one beside an old algorithm", `md5=:AAAA:, ${SHA_256}`],
		["the last of two of a name", `sha-256=${OF_ANOTHER}, ${SHA_256}`],
		["one beside a name of every object", `constructor=:AAAA:, ${SHA_256}`],
	])("takes %s", (_, digest) => {
		expect(matchesContentDigest(digest, BODY)).toBe(true);
	});

	it.each([
		["another body's digest", `sha-256=${OF_ANOTHER}`],
		["two of which one is another body's", `${SHA_512}, sha-256=${OF_ANOTHER}`],
		["the last of two of a name", `${SHA_256}, sha-256=${OF_ANOTHER}`],
		["unknown algorithms only", "crc-x=:AAAA:"],
		["names that every object has", "constructor=:AAAA:"],
		["an empty text", ""],
		["an empty digest", "sha-256=::"],
		["an algorithm in capitals", SHA_256.replace("sha", "SHA")],
		["a text instead of bytes", SHA_256.replaceAll(":", '"')],
		["no colons", SHA_256.replaceAll(":", "")],
		["hex", `sha-256=:${createHash("sha256").update(BODY).digest("hex")}:`],
		["base64url", SHA_256.replaceAll("/", "_")],
		["no padding", SHA_256.replace(/=+:$/, ":")],
		["stray bits in the last digit", SHA_256.replace(/g=:$/, "h=:")],
		["white space around the equals sign", SHA_256.replace("=:", " = :")],
		["a parameter", `${SHA_256};a=1`],
		["an empty member", `${SHA_256},`],
		["two without a comma", `${SHA_256} ${SHA_512}`],
		["a line more", `${SHA_256}\n`],
		["more than a thousand characters", `${SHA_256}${" ".repeat(1_024)}`],
	])("refuses %s", (_, digest) => {
		expect(digest).not.toBe(SHA_256);
		expect(matchesContentDigest(digest, BODY)).toBe(false);
	});

	it("never throws, and takes nothing but a digest of the body", () => {
		const piece = fc.constantFrom("sha-256", "sha-512", "=", ":", ",", " ", "\t", ";", "AAAA", SHA_256, SHA_512, "é");
		const text = fc.oneof(
			fc.array(piece, { maxLength: 12, size: "max" }).map((all) => all.join("")),
			fc.string({ unit: "binary", maxLength: 60 }),
		);
		fc.assert(
			fc.property(text, (digest) => {
				if (matchesContentDigest(digest, BODY)) expect(digest).toMatch(/sha-(?:256|512)=:/);
				expect(matchesContentDigest(digest, utf8("no body of any digest here"))).toBe(false);
			}),
			{ numRuns: RUNS },
		);
	});
});
