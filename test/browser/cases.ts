import { paying } from "./paying.ts";
import type { Figures, Stage } from "./stage.ts";
import { walletCases } from "./wallet.ts";

/** Something that a page has to be able to do; throws where it does not. Resolves to figures for the report. */
export type Case = Readonly<{ title: string; play(stage: Stage): Promise<Figures> }>;

export const CASES: readonly Case[] = [...paying, ...walletCases];
