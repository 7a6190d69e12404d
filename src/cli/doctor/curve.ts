/** What signatures are verified with on this machine, which should be the server's. */
import { chooseCurve, slowCurve } from "../../server/curves.ts";
import { type Check, ok, warn } from "./check.ts";

/** A server verifies one for each new voucher, so that how long it takes bounds what the server can take. */
export function curveCheck(): Check {
	const name = "signatures";
	const { curve, passedOver } = chooseCurve();
	const slow = slowCurve({ curve, passedOver });
	if (slow === undefined) return ok(name, "verified by the native library, libsecp256k1", { curve });
	return warn(name, slow.detail, slow.hint, { curve });
}
