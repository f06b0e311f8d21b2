# gnuplot -e 'data="crowds.dat"; out="crowds.svg"' crowds.gp
# A line for each relay.
set terminal svg size 860,400 font "Helvetica,Arial,sans-serif,13" \
    background rgb "white" dynamic
set output out
set logscale xy
set xlabel "connections that talk" offset 0,0.4
set ylabel "CPU per request, microseconds" offset 1,0
set format x "%.0f"
set format y "%.0f"
set xrange [0.8:*]
set grid xtics ytics lc rgb "#d8d8d8"
set border 3 lc rgb "#444444"
set tics nomirror textcolor rgb "#222222"
set key outside right samplen 2 spacing 1.1
set key autotitle columnhead
array colour[5] = [0x777777, 0xe08214, 0x1b9e77, 0x2166ac, 0xb2182b]
stats data skip 1 nooutput
plot for [i = 2:STATS_columns] data u 1:i w lp lw 2 pt 7 ps 0.6 \
    lc rgb colour[i - 1]
