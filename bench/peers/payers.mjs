/**
 * Payers whose signatures are made ahead, outside what is measured, and therefore by libsecp256k1, which Sluice has
 * installed. What the peers get to see is what their own client would have signed.
 */
import { createRequire } from "node:module";
import { bytesToHex, hashTypedData, hexToBytes, keccak256, toHex } from "viem";
import { privateKeyToAddress, toAccount } from "viem/accounts";

const native = createRequire(import.meta.url)("secp256k1");

/**
 * The payer with a number. Its key follows from the number, so that the process that sells knows who pays in another one:
 * it is worth nothing, on no chain.
 *
 * @param {number} at
 * @returns {import("viem").LocalAccount}
 */
export function payerAt(at) {
	const key = keccak256(toHex(`sluice bench payer ${at}`));
	const keyBytes = hexToBytes(key);
	const sign = ({ hash }) => {
		const { signature, recid } = native.ecdsaSign(hexToBytes(hash), keyBytes);
		const bytes = new Uint8Array(65);
		bytes.set(signature);
		bytes[64] = 27 + recid;
		return bytesToHex(bytes);
	};
	const unused = () => {
		throw new Error("a payer of the bench signs vouchers and authorizations alone");
	};
	return toAccount({
		address: privateKeyToAddress(key),
		sign: async ({ hash }) => sign({ hash }),
		signTypedData: async (typedData) => sign({ hash: hashTypedData(typedData) }),
		signMessage: unused,
		signTransaction: unused,
	});
}
