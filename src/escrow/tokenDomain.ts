import { type Address, ContractFunctionExecutionError, type Hex, type PublicClient, toHex } from "viem";
import { domainSeparator, type TokenDomain } from "../voucher/index.ts";
import { erc3009Abi } from "./generated/erc3009.ts";
import { isContractFault, isNodeFault } from "./nodeFault.ts";

/** The token is no ERC-3009 token, or does not sign with the domain that it, or the configuration, states. */
export class TokenUnusableError extends Error {
	override readonly name = "TokenUnusableError";
	readonly code = "TOKEN_UNUSABLE";
}

/** The two strings of a token's EIP-712 domain. */
export type TokenDomainNames = Readonly<{ name: string; version: string }>;

/**
 * The EIP-712 domain that a token's signatures are good in, checked against the separator that the token itself uses.
 *
 * @param configured Taken instead of what the token's `name()` and `version()` say: some tokens have no `version()`, and
 * some sign with another name than they show.
 * @throws {TokenUnusableError} for a token without `DOMAIN_SEPARATOR()`, `name()` or `version()`, or with another domain.
 * @example
 * const domain = await readTokenDomain(client, token, 8453, { name: "USD Coin", version: "2" });
 */
export async function readTokenDomain(
	client: PublicClient,
	token: Address,
	chainId: number,
	configured?: TokenDomainNames,
): Promise<TokenDomain> {
	const domain = await findTokenDomain(client, token, chainId, configured);
	if (domain !== undefined) return domain;
	throw new TokenUnusableError(
		`the token at ${token} has no DOMAIN_SEPARATOR(), so it takes no signed authorizations (ERC-3009); fix its address, or offer types that need none`,
	);
}

/**
 * As {@link readTokenDomain}, and `undefined` for a token without `DOMAIN_SEPARATOR()`: a plain ERC-20 token, which can
 * still be paid by transaction or through Permit2. An address without code looks the same: ask `hasCode` of it first.
 *
 * @throws {TokenUnusableError} for a token with `DOMAIN_SEPARATOR()` whose domain is not the expected one.
 * @example
 * const takesAuthorizations = (await findTokenDomain(client, token, 8453)) !== undefined;
 */
export async function findTokenDomain(
	client: PublicClient,
	token: Address,
	chainId: number,
	configured?: TokenDomainNames,
): Promise<TokenDomain | undefined> {
	const separator = await readSeparator(client, token);
	if (separator === undefined) return undefined;
	const { name, version } = configured ?? (await readNames(client, token));
	const domain = { name, version, chainId, verifyingContract: token };
	if (toHex(domainSeparator(domain)) === separator) return domain;
	const shown = `name ${JSON.stringify(name.slice(0, 80))} and version ${JSON.stringify(version.slice(0, 80))}`;
	throw new TokenUnusableError(
		configured === undefined
			? `the token at ${token} says ${shown}, and does not sign with the usual EIP-712 domain of them on chain ${chainId}; configure the token's name and version`
			: `the token at ${token} does not sign with the EIP-712 domain of the configured ${shown} on chain ${chainId}; fix them`,
	);
}

async function readSeparator(client: PublicClient, token: Address): Promise<Hex | undefined> {
	try {
		return await client.readContract({ address: token, abi: erc3009Abi, functionName: "DOMAIN_SEPARATOR" });
	} catch (error) {
		if (isAnswer(error)) return undefined;
		throw error;
	}
}

async function readNames(client: PublicClient, token: Address): Promise<TokenDomainNames> {
	const contract = { address: token, abi: erc3009Abi } as const;
	try {
		const [name, version] = await Promise.all([
			client.readContract({ ...contract, functionName: "name" }),
			client.readContract({ ...contract, functionName: "version" }),
		]);
		return { name, version };
	} catch (cause) {
		if (!isAnswer(cause)) throw cause;
		throw new TokenUnusableError(
			`the token at ${token} does not say its name() and version(); configure the token's name and version`,
			{ cause },
		);
	}
}

/** The contract has no such function: it reverted, returned nothing, or something of another type. */
function isAnswer(error: unknown): boolean {
	return error instanceof ContractFunctionExecutionError && (isContractFault(error) || !isNodeFault(error));
}
