import { createPublicClient, http, type PublicClient } from "viem";
import { privateKeyToAccount } from "viem/accounts";
import { type Place, setStage } from "../../bench/lib/stage.ts";
import { readBalance } from "../../src/escrow/index.ts";

/**
 * Sets a bench's stage, and looks at it before the bench stops it.
 *
 * @param look gets what the payee has on chain by then, in base units
 */
export function watchedStage(
	look: (payeeBalance: bigint, place: Place, client: PublicClient) => Promise<void> | void,
): typeof setStage {
	return async (wanted) => {
		const stage = await setStage(wanted);
		const { rpcUrl, token, payeeKey } = stage.place;
		const client = createPublicClient({ transport: http(rpcUrl) });
		return {
			...stage,
			async stop() {
				try {
					const { address } = privateKeyToAccount(payeeKey);
					await look(await readBalance(client, token, address), stage.place, client);
				} finally {
					await stage.stop();
				}
			},
		};
	};
}
