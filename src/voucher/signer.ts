import type { Address, LocalAccount } from "viem";

/**
 * Whoever can sign EIP-712 data: any viem account (a private key, an HD wallet, a custom account around a remote key).
 * A wallet client fits through `toAccount`.
 */
export interface TypedDataSigner {
	readonly address: Address;
	readonly signTypedData: LocalAccount["signTypedData"];
}
