import type { Account, Address, Hex } from "viem";
import { toAccount } from "viem/accounts";
import { readSigner } from "../shared/signer.ts";

/** Where a private key is looked for unless something else is said. */
export const DEFAULT_KEY_VARIABLE = "SLUICE_DEPLOYER_KEY";

/** An account, and the key that must be kept out of every text; none where the node signs. */
export type Deployer = Readonly<{ account: Account; key?: Hex }>;

/**
 * The deployer's account, its key read from a file or an environment variable; or one that the node has the key of.
 *
 * @returns `undefined` when no place was named and the default variable is not set
 * @throws {SignerError}
 */
export async function readDeployer(
	options: Readonly<{ privateKeyEnv?: string; privateKeyFile?: string; unlocked?: Address }>,
	env: NodeJS.ProcessEnv,
): Promise<Deployer | undefined> {
	const { privateKeyEnv, privateKeyFile, unlocked } = options;
	if (unlocked !== undefined) return { account: toAccount(unlocked) };
	const place = { owner: "deployer", variable: DEFAULT_KEY_VARIABLE, fileOption: "--private-key-file" };
	return readSigner({ env: privateKeyEnv, file: privateKeyFile }, place, env);
}
