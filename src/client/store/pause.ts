/** Whether somebody has stopped all spending. */
import { seal, unseal } from "./frame.ts";
import { PAUSED_KEY } from "./keys.ts";
import { pauseShape } from "./records.ts";
import type { View } from "./rounds.ts";
import { PayerStoreError } from "./store.ts";

/** Why spending is paused. @throws PayerStoreError when that can't be read: nothing may be spent then */
export async function readPause(view: View): Promise<string | undefined> {
	if (view.pause !== undefined) return view.pause.reason;
	const text = await view.get(PAUSED_KEY);
	if (text === undefined) return undefined;
	try {
		return unseal(PAUSED_KEY, text, pauseShape).reason;
	} catch (cause) {
		const hint = "pause the wallet again, or let it go on with `sluice wallet unpause`";
		throw new PayerStoreError(`whether the wallet is paused can't be read, so nothing is signed; ${hint}`, { cause });
	}
}

/** So that nobody has to read it again. Where it can't be read, whoever wants to spend is told so. */
export async function recallPause(view: View): Promise<void> {
	view.paused = await readPause(view).then(
		(reason) => ({ reason }),
		() => undefined,
	);
}

export function writePause(view: View, reason: string | undefined): void {
	view.paused = { reason };
	if (reason === undefined) view.delete(PAUSED_KEY);
	else view.put(PAUSED_KEY, seal(PAUSED_KEY, { reason }, pauseShape));
}
