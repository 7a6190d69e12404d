import { expect, test } from "vitest";
import { decodeBase64url, decodeBase64urlText, encodeBase64url } from "../../src/protocol/index.ts";
import { thrownBy } from "./support.ts";

test("a byte order mark is kept as part of the text", () => {
	expect(decodeBase64urlText(encodeBase64url("\ufeffa"))).toBe("\ufeffa");
});

test.each([
	["padding", "YQ==", "character"],
	["the other base64 alphabet", "Pj4+Pz8/", "character"],
	["white space", "YWJj YWJj", "character"],
	["a trailing line feed", "YWJj\n", "character"],
	["a character beyond ASCII", "YWJ\u0131", "character"],
	["one character", "Y", "length"],
	["five characters", "YWJjY", "length"],
	["unused bits in the last of two", "YR", "trailing_bits"],
	["unused bits in the last of three", "YWJ", "trailing_bits"],
])("%s is refused", (_, text, reason) => {
	expect(thrownBy(() => decodeBase64url(text))).toMatchObject({ code: "base64url", reason });
});

test("bytes that are not UTF-8 are refused as text, also overlong and surrogate forms", () => {
	for (const text of ["_w", "wIA", "7aCA"]) {
		expect(thrownBy(() => decodeBase64urlText(text))).toMatchObject({ code: "base64url", reason: "utf8" });
	}
});

test("text with a lone surrogate is refused instead of being changed", () => {
	expect(thrownBy(() => encodeBase64url("a\ud800"))).toMatchObject({ code: "base64url", reason: "lone_surrogate" });
});
