import type { PublicClient } from "viem";
import { type Address, ContractFunctionExecutionError, type Hex } from "viem";
import { isNodeFault } from "../../escrow/nodeFault.ts";
import { readAuthorizationState, readBalance, readTokenDomain, TokenUnusableError } from "../../escrow/reads.ts";
import type { TokenDomain } from "../../voucher/index.ts";
import { EngineOptionsError, type TokenSettings } from "../options.ts";

/** Where the token's own signatures are good; `undefined` for a plain ERC-20 token, which moves by Permit2 or by the payer. */
export async function tokenDomainOf(
	client: PublicClient,
	{ currency, chainId, token }: TokenSettings,
	holder: Address,
): Promise<TokenDomain | undefined> {
	if (!(await answers(readBalance(client, currency, holder)))) {
		throw new EngineOptionsError(
			`option currency: ${currency} is not an ERC-20 token on chain ${chainId}; fix its address`,
		);
	}
	if (!(await answers(readAuthorizationState(client, currency, holder, NO_NONCE)))) {
		if (token === undefined) return undefined;
		throw new EngineOptionsError(`option token: ${currency} is not an ERC-3009 token, so it needs no name and version`);
	}
	try {
		return await readTokenDomain(client, currency, chainId, token);
	} catch (cause) {
		if (!(cause instanceof TokenUnusableError)) throw cause;
		throw new EngineOptionsError(`option currency: ${cause.message} (option token)`, { cause });
	}
}

const NO_NONCE: Hex = `0x${"0".repeat(64)}`;

/** Whether a contract has that function. Rejects when the node does not say. */
async function answers(call: Promise<unknown>): Promise<boolean> {
	try {
		await call;
		return true;
	} catch (error) {
		if (error instanceof ContractFunctionExecutionError && !isNodeFault(error)) return false;
		throw error;
	}
}
