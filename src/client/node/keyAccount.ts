/** The account of a private key, which signs with libsecp256k1 where that loads. */
import { type Hex, hashTypedData, hexToBytes, type PrivateKeyAccount } from "viem";
import { privateKeyToAccount } from "viem/accounts";
import { signsDigests } from "../digestSigner.ts";
import { parsePrivateKey } from "./keys.ts";
import { loadKeccak256, type NativeCurve, nativeCurve, nodeKeccak256 } from "./nativeCurve.ts";

/** One of viem's accounts; `curve` is what signs digests and typed data for it. */
export type KeyAccount = PrivateKeyAccount & Readonly<{ curve: "libsecp256k1" | "portable" }>;

export type KeyAccountOptions = Readonly<{
	/** What signs; `undefined`: portable JavaScript. Default: npm `secp256k1`, where it is installed. */
	native?: NativeCurve | undefined;
}>;

/**
 * The account of a private key, for `PaymentClient`: its signatures are those of viem's `privateKeyToAccount`, and its vouchers
 * are signed about ten times as fast. Without the optional dependency `secp256k1` JavaScript makes them, and `curve` says so.
 *
 * @throws SignerError when it is no private key; never with the key
 * @example
 * const account = keyAccount(await readKeyFile("/run/secrets/agent.key"));
 * if (account.curve === "portable") console.warn("npm secp256k1 is not there: JavaScript signs vouchers");
 */
export function keyAccount(key: Hex, options: KeyAccountOptions = {}): KeyAccount {
	const parsed = parsePrivateKey(key, "what was given as a private key");
	const account = privateKeyToAccount(parsed);
	void loadKeccak256();
	const native = "native" in options ? options.native : nativeCurve();
	if (native === undefined) {
		const sign = (digest: Uint8Array) => account.sign({ hash: hexOf(digest) });
		return signsDigests({ ...account, curve: "portable" }, { sign, keccak256: nodeKeccak256 });
	}
	const secret = hexToBytes(parsed);
	const sign = (digest: Uint8Array): Hex => {
		const { signature, recid } = native.ecdsaSign(digest, secret);
		return `${hexOf(signature)}${recid === 0 ? "1b" : "1c"}`;
	};
	const signing: KeyAccount = {
		...account,
		sign: async ({ hash }) => sign(hexToBytes(hash)),
		signTypedData: async (typedData) => sign(hexToBytes(hashTypedData(typedData))),
		curve: "libsecp256k1",
	};
	return signsDigests(signing, { sign, keccak256: nodeKeccak256 });
}

/** Node's own, a microsecond quicker than the portable one. */
function hexOf({ buffer, byteOffset, length }: Uint8Array): Hex {
	return `0x${Buffer.from(buffer, byteOffset, length).toString("hex")}`;
}
